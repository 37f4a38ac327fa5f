use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const DAY: u64 = 86_400_000;

fn by(template: &str) -> PartitionBy<(u64, Option<String>)> {
    partition_by(template).time(Arc::new(|record: &(u64, Option<String>)| EventTime::from_millis(record.0)))
}

fn by_name(template: &str) -> Partitions<(u64, Option<String>)> {
    by(template).field("name", |record| record.1.clone().into()).build().unwrap()
}

fn refused(template: &str) -> String {
    let error = by(template).build().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), shardflow::ErrorKind::Config);
    error.to_string()
}

/// Everything that a path promises.
fn check_path(path: &str) {
    assert!(!path.starts_with('/') && !path.ends_with('/') && !path.is_empty(), "{path}");
    assert!(path.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != ".."), "{path}");
    assert!(!path.contains(".."), "{path}");
    assert!(!path.chars().any(char::is_control), "{path}");
    let parsed = object_store::path::Path::parse(path).unwrap();
    assert_eq!(parsed.as_ref(), path, "an object store takes it as it is");
}

#[test]
fn the_documented_example_reads_as_documented() {
    let mut partitions = by("dt={yyyy-MM-dd}/hour={HH}/account={account}")
        .field("account", |record| record.1.as_deref().into())
        .build()
        .unwrap();
    let at = 1_772_323_199_999; // 2026-02-28T23:59:59.999Z
    assert_eq!(partitions.path(&(at, Some("ä b".to_owned()))).unwrap(), "dt=2026-02-28/hour=23/account=ä b");
    assert_eq!(partitions.path(&(at + 1, None)).unwrap(), "dt=2026-03-01/hour=00/account=__HIVE_DEFAULT_PARTITION__");
}

#[test]
fn times_are_told_in_the_zone_that_was_given() {
    let mut partitions = by("{yyyy}/{MM}/{dd}/{HH}-{mm}").time_zone("America/New_York").build().unwrap();
    // The hour from 01:00 comes twice on 2026-11-01; 2026-03-08 has none from 02:00.
    for (at, path) in [
        ("2026-11-01T05:30:00Z", "2026/11/01/01-30"),
        ("2026-11-01T06:30:00Z", "2026/11/01/01-30"),
        ("2026-03-08T06:59:59Z", "2026/03/08/01-59"),
        ("2026-03-08T07:00:00Z", "2026/03/08/03-00"),
        ("1970-01-01T00:00:00Z", "1969/12/31/19-00"),
    ] {
        let millis = at.parse::<Timestamp>().unwrap().as_millisecond() as u64;
        assert_eq!(partitions.path(&(millis, None)).unwrap(), path, "{at}");
    }
    // An offset that is no whole minute, until 1972.
    let mut partitions = by("{HH_mm}").time_zone("Africa/Monrovia").build().unwrap();
    assert_eq!(partitions.path(&(44 * 60_000 + 29_999, None)).unwrap(), "23_59");
    assert_eq!(partitions.path(&(44 * 60_000 + 30_000, None)).unwrap(), "00_00");
}

#[test]
fn fields_may_come_from_serde() {
    #[derive(Serialize)]
    struct Usage {
        account: Option<&'static str>,
        tags: Vec<u8>,
        live: bool,
    }
    let mut partitions = partition_by("live={live}/account={account}").serde_fields().build().unwrap();
    let usage = |account| Usage { account, tags: vec![1], live: true };
    assert_eq!(partitions.path(&usage(Some("a"))).unwrap(), "live=true/account=a");
    assert_eq!(partitions.path(&usage(None)).unwrap(), format!("live=true/account={NULL}"));
    let why = |template: &str| {
        partition_by(template).serde_fields().build().unwrap().path(&usage(None)).unwrap_err().to_owned()
    };
    assert_eq!(why("a={acount}"), "field \"acount\": it is missing");
    assert_eq!(why("t={tags}"), "field \"tags\": a list is not a single value");
}

#[test]
fn templates_that_cannot_be_are_refused_with_the_reason() {
    for (template, text) in [
        ("", "name is empty"),
        ("/a={yyyy}", "name is empty"),
        ("a={yyyy}/", "name is empty"),
        ("a={yyyy}//b", "name is empty"),
        ("a={yyyy", "without a '}'"),
        ("a=yyyy}", "without a '{'"),
        ("a={yy{yy}}", "inside of braces"),
        ("a={yyyy}}", "without a '{'"),
        ("a={}", "nothing in the braces"),
        ("a={b c}", "no field's name"),
        ("a b", "may not stand"),
        ("a%2F", "may not stand"),
        ("..", "has no \"..\""),
        (".a", "begin with '.'"),
        ("_a={yyyy}", "begin with '.' or '_'"),
        ("a.", "may not end"),
        ("a=", "may not end"),
        ("={yyyy}", "key=value"),
        ("a=b={yyyy}", "key=value"),
        ("{account}", "account={account}"),
        ("a={account}x", "account={account}"),
        ("a={yyyy}{account}", "account={account}"),
        ("a={yyyy}/a={MM}", "key \"a\" is there twice"),
        ("dt={yyyy-mm-dd}", "the month is {MM}"),
        ("a={account}", "no field \"account\""),
        ("dt={YYYY-MM-DD}", "no field \"YYYY-MM-DD\": times are made of yyyy"),
        ("dt={-yyyy}", "no field \"-yyyy\""),
    ] {
        let error = refused(template);
        assert!(error.contains(text) && error.contains(&format!("\"{template}\"")), "{template}: {error}");
    }
}

#[test]
fn names_that_stand_for_nothing_are_refused() {
    let error = partition_by::<u8>("dt={yyyy}").build().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("it has a time"), "{error}");
    let error = by("dt={yyyy}").time_zone("Europe/Atlantis").build().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("time zone \"Europe/Atlantis\""), "{error}");
    let error = by("dt={yyyy}").field("name", |_| 1u8.into()).build().map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("field \"name\" is told and not used"), "{error}");
}

#[test]
fn what_does_not_fit_a_path_is_refused() {
    let mut partitions = by_name("dt={yyyy}/a={name}");
    let why = partitions.path(&(0, Some("/".repeat(67)))).unwrap_err();
    assert_eq!(why, "field \"name\": it takes more than 200 bytes as part of a path");
    let why = partitions.path(&(u64::MAX, None)).unwrap_err();
    assert!(why.contains("beyond the year 9999"), "{why}");
    assert_eq!(partitions.path(&(0, Some("/".repeat(66)))).unwrap().len(), 7 + 1 + 2 + 198);
    let mut long = by_name("a={name}/b={name}/c={name}/d={name}");
    assert!(long.path(&(0, Some("x".repeat(200)))).unwrap_err().contains("600 are the most"));
}

#[test]
fn values_that_look_like_something_else_do_not_become_it() {
    let mut partitions = by_name("a={name}");
    let texts = [
        "",
        ".",
        "..",
        "...",
        "/",
        "%2E",
        "%",
        "%25",
        NULL,
        EMPTY,
        "%5F_EMPTY__",
        "a/../b",
        "a.",
        "a%2E",
        "=",
        "\u{0}",
        "\u{7f}",
        "\u{85}",
        " ",
        "\u{ffff}",
        "ä",
        "a\u{308}",
    ];
    let mut seen = BTreeSet::from([partitions.path(&(0, None)).unwrap().to_owned()]);
    for text in texts {
        let path = partitions.path(&(0, Some(text.to_owned()))).unwrap().to_owned();
        check_path(&path);
        assert_eq!(values(&path), [("a".to_owned(), Some(text.to_owned()))]);
        assert!(seen.insert(path), "{text:?}");
    }
    assert_eq!(partitions.path(&(0, Some(NULL.to_owned()))).unwrap(), "a=%5F_HIVE_DEFAULT_PARTITION__");
}

#[test]
fn decoding_takes_what_others_wrote() {
    assert_eq!(
        values("a=%zz/b=100%/c=%2f%e4%C3%A4/d/=x")[..3],
        [
            ("a".to_owned(), Some("%zz".to_owned())),
            ("b".to_owned(), Some("100%".to_owned())),
            ("c".to_owned(), Some("/\u{fffd}ä".to_owned())),
        ]
    );
}

fn text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(prop_oneof!["[./%=_A-E2 \u{0}-\u{ff}]{0,6}", "\\PC{0,12}", ".{0,20}"])
}

proptest! {
    #[test]
    fn two_values_never_share_a_path_and_every_path_is_safe(
        one in (0..20_000 * DAY, text()), two in (0..20_000 * DAY, text()),
    ) {
        let mut partitions = by_name("{yyyy}/dt={MM-dd}/a={name}/t={HH.mm}");
        let paths: Vec<String> = [&one, &two].map(|record| partitions.path(record).unwrap().to_owned()).into();
        paths.iter().for_each(|path| check_path(path));
        let shown = |record: &(u64, Option<String>)| (record.0 / 60_000, record.1.clone());
        prop_assert_eq!(paths[0] == paths[1], shown(&one) == shown(&two));
        for (path, record) in paths.iter().zip([&one, &two]) {
            prop_assert_eq!(&values(path)[1], &("a".to_owned(), record.1.clone()));
        }
    }

    #[test]
    fn no_template_makes_the_parser_panic_and_those_that_pass_give_safe_paths(
        template in prop_oneof!["\\PC{0,20}", "([a-c.=_/]|\\{(yyyy|MM|dd|HH|mm|-|name)\\}){0,8}"],
        name in text(),
    ) {
        let built = by(&template).field("name", |record| record.1.clone().into()).build();
        let Ok(mut partitions) = built.or_else(|_| by(&template).build()) else { return Ok(()) };
        if let Ok(path) = partitions.path(&(DAY, name)) {
            check_path(path);
        }
    }
}
