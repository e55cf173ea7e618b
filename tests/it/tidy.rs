//! The house rules, checked on the sources themselves.

use std::fs;

use dr_tests::api::{imported_names, public_signatures};
use dr_tests::tidy::{
    SourceFile, code_only, functions, line_count, line_of, named_modules, repository_root, source_files,
    visible_top_level, without_test_items, words,
};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// The only files that may hold `unsafe`.
const UNSAFE_FILES: &[&str] = &["dr-core/src/index/mapped.rs", "dr-core/src/chunker/scan/x86.rs"];

/// Which modules of `dr-core` a folder never names: imports point down only.
const NEVER_NAMED: &[(&str, &[&str])] = &[
    ("format", &["repository", "backup", "restore", "check", "log"]),
    ("crypto", &["repository", "backup", "restore", "check", "log"]),
    ("chunker", &["repository", "backup", "restore", "check", "log"]),
    ("frame", &["repository", "backup", "restore", "check", "log"]),
    ("pack", &["repository", "backup", "restore", "check", "log"]),
    ("index", &["repository", "backup", "restore", "check", "log"]),
    ("tree", &["repository", "backup", "restore", "check", "log"]),
    ("select", &["repository", "backup", "restore", "check", "log"]),
    ("source", &["repository", "backup", "restore", "check", "log"]),
    ("snapshot", &["repository", "backup", "restore", "check", "log"]),
    ("log", &["repository", "backup", "restore", "check"]),
    (
        "repository",
        &["backup", "restore", "check", "prune", "repair", "forget", "view", "archive", "inspect"],
    ),
];

/// What may stand in signatures of the two libraries. `Bytes` is how stores hand objects over without a copy.
const PUBLIC_DEPENDENCIES: &[&str] = &["bytes::Bytes", "serde::Serialize", "serde::Deserialize"];

/// Parts of the libraries that are behind features which promise nothing.
const INNER_PARTS: &[&str] = &["/internals", "/stages.rs", "/examples/"];

const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "dr-cli",
    "dr-core",
    "dr-store",
    "fuzz",
    "tests",
];

/// Words that put work off, each written in two parts so that this file may hold them.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("for ", "now")];

/// How the names of text files end; the scripts in `.ci` have no ending.
const TEXT: &[&str] = &[".rs", ".toml", ".md", ".txt", "demo", "run", "setup", "test"];

#[test]
fn files_are_short() {
    let mut broken = Vec::new();
    for file in shipped_sources() {
        let lines = line_count(&without_test_items(&code_only(&file.text)));
        if lines > FILE_LINES_MAX {
            broken.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", file.path));
        }
    }
    report(&broken);
}

#[test]
fn functions_are_short() {
    let mut broken = Vec::new();
    for file in shipped_sources() {
        for function in functions(&without_test_items(&code_only(&file.text))) {
            if function.lines > FUNCTION_LINES_MAX {
                let (name, lines) = (&function.name, function.lines);
                let place = format!("{}:{}", file.path, function.line);
                broken.push(format!("{place}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}"));
            }
        }
    }
    report(&broken);
}

#[test]
fn the_store_does_not_know_the_engine() {
    let mut broken = Vec::new();
    for file in below(&sources(&[".rs", ".toml"]), "dr-store/") {
        let code = if file.path.ends_with(".rs") { code_only(&file.text) } else { file.text.clone() };
        for name in ["dr_core", "dr-core"] {
            let lines = words(&code, name).into_iter().map(|at| line_of(&code, at));
            broken.extend(lines.map(|line| format!("{}:{line}: names `{name}`", file.path)));
        }
    }
    report(&broken);
}

#[test]
fn imports_point_down() {
    let files = shipped_sources();
    let mut broken = Vec::new();
    for (folder, forbidden) in NEVER_NAMED {
        let prefix = format!("dr-core/src/{folder}");
        let inside = |path: &str| path.starts_with(&format!("{prefix}/")) || path == format!("{prefix}.rs");
        assert!(files.iter().any(|file| inside(&file.path)), "there is no module {prefix}: update the rule");
        for file in files.iter().filter(|file| inside(&file.path)) {
            let code = without_test_items(&code_only(&file.text));
            for (module, line) in named_modules(&file.path, &code) {
                if forbidden.contains(&module.as_str()) {
                    broken.push(format!("{}:{line}: `{folder}` imports `{module}`", file.path));
                }
            }
        }
    }
    report(&broken);
}

#[test]
fn unsafe_is_fenced_and_explained() {
    let mut broken = Vec::new();
    for file in sources(&[".rs"]) {
        let code = code_only(&file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for line in words(&code, "unsafe").into_iter().map(|at| line_of(&code, at)) {
            if !UNSAFE_FILES.contains(&file.path.as_str()) {
                broken.push(format!("{}:{line}: unsafe code outside {UNSAFE_FILES:?}", file.path));
            }
            if !lines[line.saturating_sub(6)..line].iter().any(|text| text.contains("SAFETY:")) {
                broken.push(format!("{}:{line}: no `SAFETY:` note in the five lines above", file.path));
            }
        }
    }
    report(&broken);
}

#[test]
fn the_features_that_the_readme_lists_have_tests() {
    let readme = fs::read_to_string(repository_root().join("README.md")).unwrap();
    let table =
        readme.split("\n## ").find(|part| part.contains("what they do")).expect("a table of features");
    let cells = table.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split('|').nth(2));
    let named: Vec<&str> = cells
        .flat_map(|cell| cell.split('`'))
        .filter(|word| word.contains("::") && !word.contains(' '))
        .collect();
    assert!(named.len() > 30, "{named:?}");
    let tests: Vec<SourceFile> = sources(&[".rs"]).into_iter().filter(SourceFile::is_test).collect();
    let is_there = |name: &str| {
        let (module, function) = name.rsplit_once("::").unwrap_or(("", name));
        let function = format!("fn {function}(");
        tests.iter().any(|file| module_of(&file.path) == module && file.text.contains(&function))
    };
    let broken: Vec<String> =
        named.iter().filter(|name| !is_there(name)).map(|name| (*name).to_owned()).collect();
    report(&broken);
}

#[test]
fn types_of_dependencies_are_no_part_of_the_interface() {
    let mut broken = Vec::new();
    for file in shipped_sources() {
        let Some(package) = ["dr-core", "dr-store"].into_iter().find(|it| file.path.starts_with(it)) else {
            continue;
        };
        if INNER_PARTS.iter().any(|part| file.path.contains(part)) {
            continue;
        }
        let dependencies = dependencies(package);
        let dependencies: Vec<&str> = dependencies.iter().map(String::as_str).collect();
        let code = without_test_items(&code_only(&file.text));
        let imported = imported_names(&code, &dependencies);
        for (start, signature) in public_signatures(&code) {
            let by_name = imported.iter().filter(|(name, _)| !words(signature, name).is_empty());
            let by_path = dependencies.iter().filter_map(|package| {
                let path = &signature[signature.find(&format!("{package}::"))?..];
                path.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').next()
            });
            let met = by_name.map(|(name, package)| format!("{package}::{name}"));
            let met = met.chain(by_path.map(str::to_owned));
            let line = line_of(&code, start);
            let refused = met.filter(|met| !PUBLIC_DEPENDENCIES.contains(&met.as_str()));
            broken.extend(refused.map(|met| format!("{}:{line}: `{met}` is public", file.path)));
        }
    }
    report(&broken);
}

#[test]
fn the_scanner_sees_what_is_public() {
    let code = concat!(
        "use jiff::{Span, tz::TimeZone as Zone};\nuse std::io;\n",
        "pub fn one(span: Span) -> u8 { let zone = Zone::new(); }\npub(crate) fn two(span: Span) {}\n",
        "pub struct S {\n    pub three: Vec<Span>,\n    four: Span,\n}\npub trait T {\n    fn five(&self, zone: Zone);\n}\n",
        "impl From<Span> for S {\n    fn from(span: Span) -> S {}\n}\n",
    );
    let imported = imported_names(code, &["jiff"]);
    assert_eq!(imported.keys().collect::<Vec<_>>(), ["Span", "TimeZone", "Zone"]);
    let lines: Vec<usize> = public_signatures(code)
        .into_iter()
        .filter(|(_, signature)| imported.keys().any(|name| !words(signature, name).is_empty()))
        .map(|(start, _)| line_of(code, start))
        .collect();
    assert_eq!(lines, [3, 6, 9, 12]);
}

#[test]
fn every_stored_object_is_specified() {
    let document = fs::read_to_string(repository_root().join("dr-core/docs/FORMAT.md")).unwrap_or_default();
    let mut broken = Vec::new();
    for file in below(&shipped_sources(), "dr-core/src/format/") {
        let name = file.path.trim_start_matches("dr-core/src/format/");
        if name != "mod.rs" && words(&document, name).is_empty() {
            broken.push(format!("dr-core/docs/FORMAT.md does not name `{name}`"));
        }
    }
    report(&broken);
}

#[test]
fn the_top_level_stays_small() {
    let visible = visible_top_level(&repository_root()).expect("the repository can be listed");
    assert_eq!(visible, TOP_LEVEL, "what a person sees first at the top of the repository");
}

#[test]
fn nothing_is_put_off() {
    let mut broken = Vec::new();
    for file in sources(TEXT) {
        for (index, line) in file.text.lines().enumerate() {
            let spoken = line.to_lowercase();
            for word in UNFINISHED {
                let text = if word.contains(' ') { &spoken } else { line };
                if !words(text, word).is_empty() {
                    broken.push(format!("{}:{}: says `{word}`", file.path, index + 1));
                }
            }
        }
    }
    report(&broken);
}

#[test]
fn the_scanner_sees_code_only() {
    let text = concat!(
        "// unsafe\n/* a /* nested */ unsafe */ let a = \"unsafe \\\" { \"; let b = r#\"unsafe \" {\"#;\n",
        "let c = '{'; let d: &'static str = b\"{\"; let e = '\\''; let f = 'é'; let g = b'{';\nunsafe { r }\n",
    );
    let code = code_only(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(words(&code, "unsafe").into_iter().map(|at| line_of(&code, at)).collect::<Vec<_>>(), [4]);
    assert_eq!(code.matches('{').count(), 1);
    assert!(code.contains("&'static str"));
    assert!(words("unsafe_code not_unsafe", "unsafe").is_empty());
}

#[test]
fn the_scanner_measures_functions_and_files() {
    let text = concat!(
        "fn one(f: fn(u8) -> [u8; 2]) -> u8 { 1 }\ntrait T { fn declared(&self, n: [u8; 3]); }\n",
        "impl T for X {\n    fn two(&self) {\n        if a {\n        }\n    }\n}\n",
        "#[cfg(test)]\nmod tests {\n    fn hidden() {\n    }\n}\n#[cfg(test)]\nuse a::{b, c};\nfn last() {\n}\n",
        "#[cfg(test)]\nmod tests;\n",
    );
    let code = without_test_items(&code_only(text));
    let found: Vec<_> = functions(&code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    let expected = [("one", 1, 1), ("two", 4, 4), ("last", 16, 2)];
    assert_eq!(found, expected.map(|(name, line, lines)| (name.to_owned(), line, lines)));
    assert_eq!(line_count(&code), 17);
}

#[test]
fn the_scanner_resolves_imports() {
    let code = concat!(
        "use crate::{error::Error, log::{self, read}, id};\nuse crate::pack;\npub(crate) fn f() {}\n",
        "use super::check;\nuse super::super::backup;\nfn g() { crate::restore::run(); super::super::super::odd(); }\n",
    );
    let names = |path: &str| -> Vec<String> {
        named_modules(path, code).into_iter().map(|(name, line)| format!("{name}:{line}")).collect()
    };
    let absolute = ["error:1", "log:1", "id:1", "pack:2", "restore:6"];
    assert_eq!(names("dr-core/src/format/pack.rs"), [&absolute[..4], &["backup:5"], &absolute[4..]].concat());
    assert_eq!(names("dr-core/src/format/mod.rs"), [&absolute[..4], &["check:4"], &absolute[4..]].concat());
}

/// All files of the repository with one of these endings.
fn sources(endings: &[&str]) -> Vec<SourceFile> {
    let files = source_files(&repository_root(), endings).expect("the repository can be read");
    assert!(!files.is_empty(), "no file ends in any of {endings:?}");
    files
}

/// The Rust files that are not tests.
fn shipped_sources() -> Vec<SourceFile> {
    sources(&[".rs"]).into_iter().filter(|file| !file.is_test()).collect()
}

/// The packages that a package depends on, as code names them; `dr_store` is a part of what `dr_core` offers.
fn dependencies(package: &str) -> Vec<String> {
    let manifest = fs::read_to_string(repository_root().join(package).join("Cargo.toml")).unwrap();
    let after = manifest.split("\n[dependencies]\n").nth(1).expect("a manifest lists dependencies");
    let lines = after.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(|name| name.replace('-', "_")).filter(|it| it != "dr_store").collect();
    assert!(names.len() > 5, "{package}: {names:?}");
    names
}

/// The module that a file of the integration tests is, as names of its tests begin.
fn module_of(path: &str) -> String {
    let path = path.strip_prefix("tests/it/").unwrap_or(path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

fn below<'f>(files: &'f [SourceFile], folder: &str) -> Vec<&'f SourceFile> {
    files.iter().filter(|file| file.path.starts_with(folder)).collect()
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "{} places break the rule:\n{}", broken.len(), broken.join("\n"));
}
