use super::*;
use proptest::prelude::*;

fn checkpoint(number: &str) -> Checkpoint {
    Checkpoint::new(number).unwrap()
}

fn text(bytes: Option<Vec<u8>>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn paths_are_those_of_the_spout() {
    let paths = Paths::new("kinesis_storm_spout", "metering", "usage").unwrap();
    assert_eq!(paths.shard_list(), "/kinesis_storm_spout/metering/usage/shardList");
    let state = "/kinesis_storm_spout/metering/usage/shardId-000000000001/state";
    assert_eq!(paths.state("shardId-000000000001"), state);
    assert_eq!(Paths::new("teams/billing", "t", "s").unwrap().root(), "/teams/billing/t/s");
}

#[test]
fn a_name_that_cannot_be_part_of_a_path_is_a_bad_setting_that_is_named() {
    for (prefix, topology, stream, named) in [
        ("", "t", "s", "prefix"),
        ("/p", "t", "s", "prefix"),
        ("p/", "t", "s", "prefix"),
        ("p/../q", "t", "s", "prefix"),
        ("p", "a/b", "s", "topology"),
        ("p", ".", "s", "topology"),
        ("p", "t", "", "stream"),
        ("p", "t", "a\u{7}b", "stream"),
    ] {
        let error = Paths::new(prefix, topology, stream).unwrap_err();
        assert_eq!(error.kind(), shardflow::ErrorKind::Config);
        assert!(error.to_string().contains(&format!("the {named} \"")), "{error}");
    }
}

#[test]
fn a_new_node_is_written_byte_for_byte_as_the_spout_does() {
    let state = state_towards(None, &checkpoint("49578481031144599192696750682534686652010819674221576194"));
    let expected = r#"{"checkpoint":"49578481031144599192696750682534686652010819674221576194"}"#;
    assert_eq!(text(state.unwrap()).unwrap(), expected);
    let shards = ["shardId-000000000000".to_owned(), "shardId-000000000001".to_owned()];
    let expected = r#"{"shardList":["shardId-000000000000","shardId-000000000001"]}"#;
    assert_eq!(text(list_towards(None, &shards).unwrap()).unwrap(), expected);
}

#[test]
fn what_is_not_there_has_its_default_as_in_the_spout() {
    assert_eq!(read_state(b"{}").unwrap(), None);
    assert_eq!(read_state(br#"{"checkpoint":""}"#).unwrap(), None);
    assert_eq!(read_state(br#" { "checkpoint" : "12" , "x" : [1] } "#).unwrap(), Some(checkpoint("12")));
    assert!(read_list(b"{}").unwrap().is_empty());
}

#[test]
fn fields_that_are_not_known_are_kept_as_they_were() {
    let stands = br#"{"owner":{"b":1,"a":123456789012345678901234567890},"checkpoint":"9","zone":"x"}"#;
    let written = text(state_towards(Some(stands), &checkpoint("10")).unwrap()).unwrap();
    let expected = r#"{"checkpoint":"10","owner":{"b":1,"a":123456789012345678901234567890},"zone":"x"}"#;
    assert_eq!(written, expected);
    let list = list_towards(Some(br#"{"shardList":[],"by":"me"}"#), &["a".to_owned()]).unwrap();
    assert_eq!(text(list).unwrap(), r#"{"shardList":["a"],"by":"me"}"#);
}

#[test]
fn malformed_nodes_say_what_is_wrong_and_are_never_written() {
    for (bytes, part) in [
        (&b""[..], "no JSON object"),
        (b"10.0.0.7", "no JSON object"),
        (b"[]", "no JSON object"),
        (b"\xff\xfe{}", "no JSON object"),
        (br#"{"checkpoint":"12"}x"#, "no JSON object"),
        (br#"{"checkpoint":12}"#, "its field \"checkpoint\""),
        (br#"{"checkpoint":null}"#, "its field \"checkpoint\""),
        (br#"{"checkpoint":"TRIM_HORIZON"}"#, "\"TRIM_HORIZON\" is no sequence number"),
        (br#"{"checkpoint":"-5"}"#, "no sequence number"),
        (br#"{"checkpoint":"5:1"}"#, "no sequence number"),
    ] {
        let malformed = read_state(bytes).unwrap_err();
        assert!(malformed.to_string().contains(part), "{malformed}");
        assert_eq!(state_towards(Some(bytes), &checkpoint("99")).unwrap_err(), malformed);
    }
    for bytes in [&b"{"[..], br#"{"shardList":"a"}"#, br#"{"shardList":[1]}"#] {
        assert!(list_towards(Some(bytes), &[]).is_err());
    }
}

#[test]
fn shards_are_listed_in_the_order_of_their_numbers() {
    let mut shards = ["shardId-000000000010", "x", "shardId-9", "shardId-000000000002"];
    shards.sort_by(|left, right| list_order(left, right));
    assert_eq!(shards, ["shardId-000000000002", "shardId-9", "shardId-000000000010", "x"]);
}

proptest! {
    #[test]
    fn a_checkpoint_only_moves_forward(stands in 0u128.., wanted in 0u128..) {
        let bytes = format!(r#"{{"checkpoint":"{stands}"}}"#);
        let written = state_towards(Some(bytes.as_bytes()), &checkpoint(&wanted.to_string())).unwrap();
        prop_assert_eq!(written.is_some(), wanted > stands);
        if let Some(bytes) = written {
            prop_assert_eq!(read_state(&bytes).unwrap(), Checkpoint::new(&wanted.to_string()));
        }
    }

    #[test]
    fn a_list_that_was_written_is_read_back(shards in proptest::collection::vec(".{0,12}", 0..5)) {
        let written = list_towards(None, &shards).unwrap().unwrap();
        prop_assert_eq!(read_list(&written).unwrap(), shards.clone());
        prop_assert_eq!(list_towards(Some(&written), &shards).unwrap(), None);
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = (read_state(&bytes), read_list(&bytes));
    }
}
