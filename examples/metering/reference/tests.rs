use super::*;

const SEMANTICS: Semantics = Semantics { window: 10, lag: 5, grace: 0, dedupe: 100 };

fn line(id: &str, account: &str, qty: u64, at: u64) -> String {
    format!("{{\"id\":\"{id}\",\"account\":\"{account}\",\"meter\":\"m\",\"qty\":{qty},\"at\":{at}}}\n")
}

fn compute(semantics: &Semantics, files: &[(&str, String)]) -> Reference {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    Reference::compute(dir.path(), semantics).unwrap()
}

fn charge(account: &str, start: u64, qty: u128, count: u64, max: u64) -> (ChargeKey, Total) {
    ((account.into(), "m".into(), start, start + 10), Total { qty, count, max })
}

fn charges(reference: &Reference) -> Vec<(ChargeKey, Total)> {
    reference.charges.iter().map(|(key, total)| (key.clone(), *total)).collect()
}

fn late_ids(reference: &Reference) -> Vec<(String, u64)> {
    let id = |text: &str| serde_json::from_str::<Usage>(text).unwrap().id.to_string();
    reference.late.iter().map(|(text, count)| (id(text), *count)).collect()
}

fn ids(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect()
}

#[test]
fn records_fall_into_the_window_of_their_time() {
    let text = [line("1", "a", 3, 0), line("2", "a", 5, 9), line("3", "a", 7, 10), line("4", "b", 1, 9)].concat();
    let reference = compute(&SEMANTICS, &[("x.ndjson", text)]);
    let expected = [charge("a", 0, 8, 2, 5), charge("a", 10, 7, 1, 7), charge("b", 0, 1, 1, 1)];
    assert_eq!(charges(&reference), expected);
}

#[test]
fn record_is_late_from_the_moment_the_watermark_reaches_its_windows_end() {
    let in_time = [line("1", "a", 1, 14), line("2", "a", 1, 9)].concat();
    assert_eq!(late_ids(&compute(&SEMANTICS, &[("x.ndjson", in_time)])), ids(&[]));
    let late = [line("1", "a", 1, 15), line("2", "a", 1, 9)].concat();
    assert_eq!(late_ids(&compute(&SEMANTICS, &[("x.ndjson", late.clone())])), ids(&[("2", 1)]));
    let grace = Semantics { grace: 1, ..SEMANTICS };
    assert_eq!(late_ids(&compute(&grace, &[("x.ndjson", late)])), ids(&[]));
}

#[test]
fn each_file_has_a_watermark_of_its_own() {
    let files = [("x.ndjson", line("1", "a", 1, 1000)), ("y.ndjson", line("2", "b", 1, 0))];
    assert_eq!(late_ids(&compute(&SEMANTICS, &files)), ids(&[]));
}

#[test]
fn copy_within_the_horizon_is_dropped_and_beyond_it_counts() {
    let text = [
        line("1", "a", 1, 0),
        line("1", "a", 1, 99),
        line("1", "b", 1, 0),
        line("1", "a", 1, 100),
        line("1", "a", 1, 199),
    ];
    let reference = compute(&SEMANTICS, &[("x.ndjson", text.concat())]);
    // The copy at 99 moves the watermark to 94, so b's record at 0 is late although it is no copy.
    assert_eq!((charges(&reference).len(), reference.duplicates), (2, 2));
    assert_eq!(late_ids(&reference), ids(&[("1", 1)]));
}

#[test]
fn late_copy_is_dropped_before_it_is_late() {
    let text = [line("0", "a", 1, 90), line("1", "a", 1, 0), line("1", "a", 1, 0)].concat();
    let reference = compute(&SEMANTICS, &[("x.ndjson", text.clone())]);
    assert_eq!((late_ids(&reference), reference.duplicates), (ids(&[("1", 1)]), 1));
    let all = compute(&Semantics { dedupe: 0, ..SEMANTICS }, &[("x.ndjson", text)]);
    assert_eq!((late_ids(&all), all.duplicates), (ids(&[("1", 2)]), 0));
}

#[test]
fn copy_is_forgotten_when_the_watermark_is_a_horizon_further() {
    let text = |ahead: u64| [line("1", "a", 1, 0), line("0", "a", 1, ahead), line("1", "a", 1, 0)].concat();
    let duplicates = |ahead: u64| compute(&SEMANTICS, &[("x.ndjson", text(ahead))]).duplicates;
    assert_eq!((duplicates(104), duplicates(105)), (1, 0));
}

#[test]
fn bad_line_is_rejected_at_its_offset_and_moves_no_time() {
    let far = line("9", "a", 1, LAST_MILLISECOND + 1);
    let text = format!("\r\n{far}{{\r\n{}", line("1", "a", 1, 3));
    let reference = compute(&SEMANTICS, &[("x.ndjson", text)]);
    let expected = [("2".to_owned(), far.trim_end().to_owned()), ((far.len() + 2).to_string(), "{".to_owned())];
    let rejected: Vec<_> =
        reference.rejected.keys().map(|(_, position, raw)| (position.clone(), raw.clone())).collect();
    assert_eq!(rejected, expected);
    assert_eq!(charges(&reference), [charge("a", 0, 1, 1, 1)]);
}

#[test]
fn single_file_is_named_by_its_name_and_a_missing_one_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.ndjson");
    fs::write(&path, "{").unwrap();
    let reference = Reference::compute(&path, &SEMANTICS).unwrap();
    assert_eq!(reference.rejected.keys().next().unwrap().0, "one.ndjson");
    assert!(Reference::compute(&dir.path().join("none"), &SEMANTICS).unwrap_err().to_string().contains("none"));
}

/// A job's output that agrees with its reference.
fn correct_output() -> (tempfile::TempDir, Reference) {
    let text = [line("1", "a", 3, 0), line("2", "a", 5, 11), line("3", "b", 1, 90), line("4", "a", 1, 1), "{\n".into()]
        .concat();
    let reference = compute(&SEMANTICS, &[("x.ndjson", text)]);
    let out = tempfile::tempdir().unwrap();
    for folder in ["charges", "late", "rejected"] {
        fs::create_dir_all(out.path().join(folder)).unwrap();
    }
    let rows: String = charges(&reference).iter().map(charge_line).collect();
    fs::write(out.path().join("charges/1.ndjson"), rows).unwrap();
    fs::write(out.path().join("late/1.ndjson"), line("4", "a", 1, 1)).unwrap();
    let (_, position, _) = reference.rejected.keys().next().unwrap();
    let rejected = format!("{{\"error\":\"eof\",\"raw\":\"{{\",\"split\":\"x.ndjson\",\"position\":\"{position}\"}}\n");
    fs::write(out.path().join("rejected/1.ndjson"), rejected).unwrap();
    (out, reference)
}

fn charge_line(((account, meter, start, end), total): &(ChargeKey, Total)) -> String {
    let row = Charge {
        account: account.into(),
        meter: meter.into(),
        window_start: *start,
        window_end: *end,
        qty: total.qty,
        count: total.count,
        max: total.max,
    };
    serde_json::to_string(&row).unwrap() + "\n"
}

#[test]
fn correct_output_holds() {
    let (out, reference) = correct_output();
    let report = reference.compare(out.path()).unwrap();
    assert!(report.holds(), "{report}");
    assert_eq!((report.charges.found, report.late.found, report.rejected.found), (3, 1, 1));
}

#[test]
fn lost_row_is_missing() {
    let (out, reference) = correct_output();
    let path = out.path().join("charges/1.ndjson");
    let kept: String = fs::read_to_string(&path).unwrap().lines().skip(1).map(|row| format!("{row}\n")).collect();
    fs::write(path, kept).unwrap();
    fs::remove_file(out.path().join("late/1.ndjson")).unwrap();
    let report = reference.compare(out.path()).unwrap();
    assert_eq!((report.charges.missing, report.late.missing, report.holds()), (1, 1, false));
    assert!(report.to_string().contains("missing: (\"a\", \"m\", 0, 10)"), "{report}");
}

#[test]
fn doubled_row_is_twice_even_in_another_file() {
    let (out, reference) = correct_output();
    for folder in ["charges", "late", "rejected"] {
        fs::copy(out.path().join(folder).join("1.ndjson"), out.path().join(folder).join("2.ndjson")).unwrap();
    }
    let report = reference.compare(out.path()).unwrap();
    assert_eq!((report.charges.twice, report.late.twice, report.rejected.twice), (3, 1, 1));
    assert!(!report.holds());
}

#[test]
fn changed_row_and_stranger_are_told_apart() {
    let (out, reference) = correct_output();
    let path = out.path().join("charges/1.ndjson");
    let text = fs::read_to_string(&path).unwrap().replacen("\"qty\":3", "\"qty\":4", 1);
    fs::write(&path, text + &charge_line(&charge("z", 0, 1, 1, 1))).unwrap();
    let report = reference.compare(out.path()).unwrap();
    assert_eq!((report.charges.changed, report.charges.unexpected, report.holds()), (1, 1, false));
}

#[test]
fn row_without_a_reason_or_a_cut_file_is_an_error() {
    let (out, reference) = correct_output();
    let path = out.path().join("rejected/1.ndjson");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("eof", "")).unwrap();
    assert!(reference.compare(out.path()).unwrap_err().to_string().contains("without a reason"));
    fs::write(&path, text.trim_end()).unwrap();
    assert!(reference.compare(out.path()).unwrap_err().to_string().contains("is cut"));
}
