//! `viscum bench` from the command line: a short measurement, its files, and two of them side by side.

use std::fs;

use serde_json::Value;

use crate::support::forwarder::{text, viscum};

#[test]
fn a_short_measurement_is_a_report_that_can_be_compared() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("one");
    let out_text = out.to_str().unwrap();
    let words = "bench --sizes 64 --parts throughput --rounds 2 --trial-ms 20 --out";
    let mut args: Vec<&str> = words.split(' ').collect();
    args.extend([out_text, "--paths", "kernel tc,XDP redirect"]);
    let done = viscum(None, &args);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let json = fs::read_to_string(out.join("report.json")).unwrap();
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["paths"].as_array().unwrap().len(), 2, "{json}");
    for row in report["throughput"].as_array().unwrap() {
        let rate = row["overload"]["median"].as_f64().unwrap();
        assert!(rate > 0.0, "{row}");
        assert_eq!((&row["duplicates"], &row["reordered"]), (&Value::from(0), &Value::from(0)), "{row}");
    }
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("kernel tc") && !page.contains("src="), "the page stands alone");

    let file = out.join("report.json");
    let compare = ["bench", "compare", file.to_str().unwrap(), file.to_str().unwrap()];
    let said = text(&viscum(None, &compare).stdout);
    assert!(said.contains("same within the noise") && !said.contains("worse"), "{said}");

    let none = viscum(None, &["bench", "--paths", "no-such-path"]);
    let error = text(&none.stderr);
    assert!(!none.status.success() && error.contains("no path is called \"no-such-path\"; the paths are:"), "{error}");
    fs::write(&file, "{}").unwrap();
    assert!(text(&viscum(None, &compare).stderr).contains("is no report of `viscum bench`"));
}
