//! The corpus of the fuzz targets through their bodies, in ordinary builds too. `make fuzz` looks for more.

#[path = "fuzz/bodies/mod.rs"]
mod bodies;

use std::fs;
use std::path::Path;

#[test]
fn nothing_in_the_corpus_is_answered_wrongly() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, body) in bodies::TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            let path = entry.unwrap().path();
            // A panic does not say which file it was: this does, when the test fails.
            println!("{}", path.display());
            body(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count >= 4, "the corpus of {name} is missing");
    }
}
