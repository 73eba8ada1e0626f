//! The rules of the house that a program can check: imports between layers, first lines, file lengths, `unsafe`.

use std::fs;
use std::path::{Path, PathBuf};

/// Which crate modules a module may import besides itself. A file that is listed by path is judged by its own line.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("types", &["limits"]),
    ("wire", &["types", "limits"]),
    ("rules/eval", &["types", "limits", "wire", "rules"]),
    ("rules", &["types", "limits"]),
    ("tc", &["types", "limits", "rules"]),
    ("plan", &["types", "limits", "wire", "rules"]),
    ("sys", &["types", "limits"]),
    ("ebpf/load", &["types", "limits", "rules", "ebpf", "sys"]),
    ("ebpf", &["types", "limits", "rules"]),
    // `wire` for checksums and segmentation: a port hands out frames as they would be on the wire.
    ("port", &["types", "limits", "sys", "wire"]),
    ("worker", &["types", "limits", "wire", "rules", "plan", "port", "sys"]),
    // Actions and keys as plain data: what the kernel's netlink messages are decoded to.
    ("host/tc", &["types", "limits", "sys", "rules"]),
    ("host", &["types", "limits", "sys"]),
    ("app", &["types", "limits", "wire", "rules", "tc", "plan", "sys", "ebpf", "port", "worker", "host"]),
    (
        "lab",
        &["types", "limits", "wire", "rules", "tc", "plan", "sys", "ebpf", "port", "worker", "host", "app", "measure"],
    ),
    (
        "measure",
        &["types", "limits", "wire", "rules", "tc", "plan", "sys", "ebpf", "port", "worker", "host", "app", "lab"],
    ),
    ("cli", &["types", "limits", "rules", "tc", "app", "lab", "measure", "host"]),
];

const LINES_MAX: usize = 500;
const LINES_WITHOUT_TESTS_MAX: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every file of `src` and `tests`, as (path below the root, text).
fn sources(dirs: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in dirs.iter().filter(|d| root().join(d).is_dir()) {
        rust_files(&root().join(dir), &mut found);
    }
    assert!(found.len() > 10, "the sources were not found");
    found
        .into_iter()
        .map(|p| (p.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&p).unwrap()))
        .collect()
}

/// The text before the test module, which may import what it likes.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |at| &text[..at])
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// The names that follow `crate::` in code (not in comments), `use crate::{a, b}` included.
fn imports(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut word)),
                    c if depth == 0 => word.push(c),
                    _ => {}
                }
            }
            names.push(word);
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names.into_iter().map(|n| n.trim().split("::").next().unwrap_or("").to_owned()).filter(|n| !n.is_empty()).collect()
}

#[test]
fn layers_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (path, text) in sources(&["src"]) {
        let place = path.trim_start_matches("src/").trim_end_matches(".rs");
        if place == "lib" || place == "main" || is_test_file(&path) {
            continue;
        }
        let (name, allowed) = MAY_IMPORT
            .iter()
            .find(|(name, _)| place == *name || place.starts_with(&format!("{name}/")))
            .unwrap_or_else(|| panic!("{path}: the module is not in the import table"));
        let own = name.split('/').next().unwrap();
        for import in imports(without_tests(&text)) {
            if import != own && !allowed.contains(&import.as_str()) {
                wrong.push(format!("{path}: {name} may not import crate::{import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_first_what_it_is() {
    for (path, text) in sources(&["src", "tests", "bench"]) {
        assert!(text.starts_with("//! "), "{path}: the first line must be //! and say what the file is");
    }
}

#[test]
fn files_are_short() {
    for (path, text) in sources(&["src", "tests"]) {
        let whole = text.lines().count();
        let code = without_tests(&text).lines().count();
        assert!(whole <= LINES_MAX, "{path}: {whole} lines; {LINES_MAX} are allowed: split it");
        assert!(
            code <= LINES_WITHOUT_TESTS_MAX || is_test_file(&path) || path.starts_with("tests/"),
            "{path}: {code} lines without tests; {LINES_WITHOUT_TESTS_MAX} are allowed"
        );
    }
}

#[test]
fn unsafe_is_in_sys_only() {
    for (path, text) in sources(&["src", "tests", "bench"]) {
        if path.starts_with("src/sys/") || path == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let word = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|w| w == "unsafe");
            assert!(!word, "{path}:{}: unsafe outside of src/sys: {line}", number + 1);
        }
    }
}

#[test]
fn no_stub_is_left() {
    for (path, text) in sources(&["src", "tests"]) {
        if path == "tests/tidy.rs" {
            continue;
        }
        for stub in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"] {
            assert!(!text.contains(stub), "{path}: {stub}");
        }
    }
}
