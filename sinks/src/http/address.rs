//! A URL without what is secret in it.

use std::fmt;

use reqwest::Url;

use super::secret::Secret;

/// Where calls go. Shows its scheme, host and port, never credentials, path or query.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Without credentials.
    url: Url,
    /// What stood before the host.
    credentials: Option<(String, Secret)>,
}

impl Address {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// Why it is none that can be called. The text shows nothing of the URL.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text.trim()).map_err(|error| format!("it is no URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("it must begin with http:// or https://".to_owned());
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("it names no host".to_owned());
        }
        let user = decoded(url.username());
        let credentials = (!user.is_empty() || url.password().is_some())
            .then(|| (user, Secret::new(decoded(url.password().unwrap_or_default()))));
        // They can be taken from any URL that has a host.
        let taken = url.set_username("").and_then(|()| url.set_password(None));
        taken.map_err(|()| "its credentials cannot be taken apart".to_owned())?;
        url.set_fragment(None);
        Ok(Self { url, credentials })
    }

    /// The whole of it but its credentials.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// User and password that stood in the URL.
    pub(crate) fn credentials(&self) -> Option<&(String, Secret)> {
        self.credentials.as_ref()
    }

    /// What a server knows of it that must not be told: path and query, whole and in their parts, as they are sent and as they
    /// are read.
    pub(crate) fn hidden(&self) -> Vec<Secret> {
        let path = self.url.path().trim_matches('/');
        let query = self.url.query().unwrap_or_default();
        let whole = format!("{path}?{query}");
        // A pair without a name is a value.
        let values = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let sent = [whole.as_str(), path, query].into_iter().chain(path.split('/')).chain(values);
        // In a query a plus stands for a blank.
        let forms = sent.flat_map(|text| [text.to_owned(), decoded(text), decoded(&text.replace('+', " "))]);
        forms.map(Secret::new).collect()
    }

    /// The address of something below it. A query of its own is dropped.
    pub(crate) fn below(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Whether what is sent there can be read on the way.
    pub(crate) fn is_open_to_all(&self) -> bool {
        let is_local = match self.url.host_str() {
            Some(host) => host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(is_loopback),
            None => false,
        };
        self.url.scheme() == "http" && !is_local
    }
}

fn is_loopback(address: std::net::IpAddr) -> bool {
    address.is_loopback()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.url.host_str().unwrap_or_default())?;
        self.url.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Percent-encoded text as what it stands for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| byte == b'%') {
            Some(code) => {
                bytes.push(code);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_shows_where_it_leads_and_nothing_that_is_secret() {
        let address = Address::parse("https://elastic:p%40ss@search.example:9200/T000/B000?token=xyz#f").unwrap();
        assert_eq!(format!("{address} {address:?}"), "https://search.example:9200 \"https://search.example:9200\"");
        let (user, password) = address.credentials().unwrap();
        assert_eq!((user.as_str(), password.expose()), ("elastic", "p@ss"));
        assert_eq!(address.url().as_str(), "https://search.example:9200/T000/B000?token=xyz");
        let below = address.below("_bulk", &[("pipeline", "a b")]);
        assert_eq!(below.as_str(), "https://search.example:9200/T000/B000/_bulk?pipeline=a+b");
    }

    #[test]
    fn path_and_query_are_hidden_whole_and_in_their_parts_as_sent_and_as_read() {
        let address = Address::parse("https://x/T000/b%2Fc%20d?token=x%3Dy+z&bare").unwrap();
        let hidden: Vec<String> = address.hidden().iter().map(|secret| secret.expose().to_owned()).collect();
        for text in [
            "T000/b%2Fc%20d?token=x%3Dy+z&bare",
            "T000/b%2Fc%20d",
            "T000/b/c d",
            "token=x%3Dy+z&bare",
            "T000",
            "b%2Fc%20d",
            "b/c d",
            "x%3Dy+z",
            "x=y z",
            "bare",
        ] {
            assert!(hidden.iter().any(|hidden| hidden == text), "{text} is not in {hidden:?}");
        }
        assert!(!hidden.iter().any(|hidden| hidden == "token"), "the name of a value is no secret");
    }

    #[test]
    fn what_cannot_be_called_is_refused_without_being_shown() {
        for bad in
            ["", "search:9200", "ftp://user:hunter2@x", "http://", "user:hunter2@search", "https://user:hunter2@"]
        {
            let error = Address::parse(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn only_plain_http_to_elsewhere_is_open_to_all() {
        for (url, open) in [
            ("http://search:9200", true),
            ("https://search:9200", false),
            ("http://127.0.0.1:9200", false),
            ("http://[::1]:9200", false),
            ("http://localhost:9200", false),
        ] {
            assert_eq!(Address::parse(url).unwrap().is_open_to_all(), open, "{url}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_refused(text in ".*", encoded in "[a-z%0-9]{0,20}") {
            let _ = Address::parse(&text);
            let _ = decoded(&encoded);
        }
    }
}
