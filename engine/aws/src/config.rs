//! Finds the AWS configuration, and says what is missing of it.

use std::net::Ipv6Addr;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_types::origin::Origin;
use aws_types::service_config::ServiceConfigKey;

use crate::failure::chain;

/// What a user has set of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The service's id in the SDK (`Kinesis`): the environment and the profile may have an endpoint for it alone.
    pub service: &'a str,
    /// A configuration of the user's own, instead of the usual one.
    pub config: Option<&'a SdkConfig>,
    /// Another endpoint than that of the region: a URL.
    pub endpoint: Option<&'a str>,
    /// The region.
    pub region: Option<&'a str>,
    /// The region where none is set: that of an ARN.
    pub otherwise: Option<&'a str>,
}

impl<'a> Given<'a> {
    /// Where it leads as far as the settings alone say: an endpoint, or `region eu-west-1`. To be shown: nothing secret, and no
    /// path.
    #[must_use]
    pub fn place(self) -> Option<String> {
        let endpoint = self.endpoint.or_else(|| self.config?.endpoint_url());
        let otherwise = match self.config {
            Some(config) => config.region().map(AsRef::as_ref),
            None => self.otherwise,
        };
        let region = || Some(format!("region {}", self.region.or(otherwise)?));
        endpoint.map(shown).or_else(region)
    }

    /// `subject` and where it is, as far as the settings say.
    #[must_use]
    pub fn locate(self, subject: &str) -> String {
        self.place().map_or_else(|| subject.to_owned(), |place| format!("{subject} at {place}"))
    }

    /// The user's configuration, or the usual one, with what else was set.
    pub async fn load(self) -> SdkConfig {
        let region = |name: &str| Region::new(name.to_owned());
        if let Some(config) = self.config {
            let mut config = config.clone().into_builder();
            if let Some(endpoint) = self.endpoint {
                config = config.endpoint_url(endpoint);
                // Without it, what the environment has for this service alone would count for more.
                config.insert_origin("endpoint_url", Origin::shared_config());
            }
            if let Some(name) = self.region {
                config = config.region(region(name));
            }
            return config.build();
        }
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(name) = self.region.or(self.otherwise) {
            loader = loader.region(region(name));
        }
        if let Some(endpoint) = self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        loader.load().await
    }
}

/// Whether an endpoint can be called, and shown: it stands in errors and in the log. What else is wrong with it, the first call
/// tells.
///
/// # Errors
/// Why it cannot. The text shows nothing of it.
pub fn check_endpoint(endpoint: &str) -> Result<(), &'static str> {
    // Anywhere: a password may hold what else would end it.
    if endpoint.contains('@') {
        return Err("it holds a user name or a password; credentials belong into the AWS configuration");
    }
    let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let is_url =
        host.is_some_and(|host| !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace));
    if is_url { Ok(()) } else { Err("it must begin with http:// or https:// and name a host") }
}

/// The endpoint that the SDK's client of a service takes from a configuration. As the SDK has it: what a program set counts most,
/// then what the environment and the profile have for this service, then what they have for all.
pub fn endpoint_of(config: &SdkConfig, service: &str) -> Option<String> {
    let own = || {
        let key = ServiceConfigKey::builder().service_id(service).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        config.service_config()?.load_config(key.build().ok()?)
    };
    let is_set_by_program = config.get_origin("endpoint_url").is_client_config();
    let own = if is_set_by_program { None } else { own() };
    own.or_else(|| config.endpoint_url().map(ToOwned::to_owned))
}

/// The scheme, host and port of an endpoint. Where that is not surely all that is shown, nothing is: a password that is not
/// escaped may stand anywhere before an "@".
fn shown(endpoint: &str) -> String {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let parts = endpoint.split_once("://").filter(|_| check_endpoint(endpoint).is_ok());
    let place = parts.and_then(|(scheme, rest)| {
        let place = rest.split(['/', '?', '#']).next()?;
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !place.ends_with(']') => (host, port),
            _ => (place, ""),
        };
        let ip = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_named = host.bytes().all(is_host) || ip.is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
        let is_place = is_named && port.bytes().all(|byte| byte.is_ascii_digit());
        is_place.then(|| format!("{scheme}://{place}"))
    });
    place.unwrap_or_else(|| "an endpoint of its own".to_owned())
}

/// Asks for credentials once, since without them the first call would fail with a far less clear error.
///
/// # Errors
/// Why there are none, in one line.
pub async fn credentials(config: &SdkConfig) -> Result<(), String> {
    let Some(provider) = config.credentials_provider() else { return Err("no AWS credentials are set".to_owned()) };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("there are no AWS credentials: {}", chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use aws_types::service_config::LoadServiceConfig;

    use super::*;

    /// What an environment has: an endpoint for Kinesis alone.
    #[derive(Debug)]
    struct Environment;

    impl LoadServiceConfig for Environment {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            (key.service_id() == "Kinesis" && key.env() == "AWS_ENDPOINT_URL").then(|| "https://own".to_owned())
        }
    }

    #[test]
    fn endpoints_are_urls_without_credentials() {
        for good in
            ["http://127.0.0.1:4567", "https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com", "http://[::1]:80/x"]
        {
            assert_eq!(check_endpoint(good), Ok(()), "{good}");
        }
        for bad in ["", "localhost:4567", "ftp://x", "http://", "http:///path", "http://a b"] {
            assert!(check_endpoint(bad).is_err_and(|why| why.contains("must begin")), "{bad}");
        }
        for bad in
            ["https://user:pw@host", "user:pw@host", "https://token@host/x", "https://user:p/w@host", "http://:@x"]
        {
            assert!(check_endpoint(bad).is_err_and(|why| why.contains("user name")), "{bad}");
        }
    }

    #[tokio::test]
    async fn the_endpoint_of_a_service_is_the_one_that_the_sdk_takes() {
        let config = SdkConfig::builder().service_config(Environment).endpoint_url("https://all").build();
        assert_eq!(endpoint_of(&config, "Kinesis").as_deref(), Some("https://own"));
        assert_eq!(endpoint_of(&config, "DynamoDB").as_deref(), Some("https://all"));
        let given = Given {
            service: "Kinesis",
            config: Some(&config),
            endpoint: Some("https://given"),
            region: None,
            otherwise: None,
        };
        assert_eq!(endpoint_of(&given.load().await, "Kinesis").as_deref(), Some("https://given"));
        assert_eq!(endpoint_of(&SdkConfig::builder().build(), "Kinesis"), None);
    }

    #[test]
    fn an_endpoint_shows_where_it_leads_and_nothing_that_may_be_secret() {
        for (endpoint, place) in [
            ("http://127.0.0.1:4567", "http://127.0.0.1:4567"),
            (
                "https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com/a/SECRET?b=SECRET#SECRET",
                "https://vpce-1.kinesis.eu-west-1.vpce.amazonaws.com",
            ),
            ("http://[::1]:4567/", "http://[::1]:4567"),
            ("http://[::1]", "http://[::1]"),
            ("https://user:SECRET@host", "an endpoint of its own"),
            ("https://user:SEC/RET@host", "an endpoint of its own"),
            ("https://user:SECRET", "an endpoint of its own"),
            ("SECRET", "an endpoint of its own"),
            ("", "an endpoint of its own"),
        ] {
            assert_eq!(shown(endpoint), place, "{endpoint}");
        }
    }

    #[test]
    fn a_place_is_what_the_settings_say_and_no_more() {
        let nothing = Given { service: "Kinesis", config: None, endpoint: None, region: None, otherwise: None };
        assert_eq!(nothing.locate("stream \"usage\""), "stream \"usage\"");
        let of_arn = Given { otherwise: Some("eu-west-1"), ..nothing };
        assert_eq!(of_arn.locate("it"), "it at region eu-west-1");
        assert_eq!(Given { region: Some("eu-west-2"), ..of_arn }.locate("it"), "it at region eu-west-2");
        let with_region = SdkConfig::builder().region(Region::new("us-east-1")).build();
        let with_endpoint = with_region.clone().into_builder().endpoint_url("http://host:1").build();
        assert_eq!(Given { config: Some(&with_region), ..of_arn }.locate("it"), "it at region us-east-1");
        let given = Given { config: Some(&with_endpoint), ..of_arn };
        assert_eq!(given.locate("it"), "it at http://host:1");
        assert_eq!(Given { endpoint: Some("http://other"), ..given }.locate("it"), "it at http://other");
    }
}
