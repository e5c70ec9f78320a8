//! Sizes of files and functions.
//!
//! - Sample canisters are not measured: they are written to be run, not to be grown.

use super::{Allowances, Finding, RustFile};

/// Lines above which a file must stand among the allowances.
pub const FILE_LINES_WARN: usize = 700;
/// Lines that no file may pass, whatever the allowances say.
pub const FILE_LINES_MAX: usize = 1000;
/// Lines above which a function must stand among the allowances. A function should fit a screen; this is the limit of
/// patience, not the aim.
pub const FUNCTION_LINES_MAX: usize = 100;

const _: () = assert!(FILE_LINES_WARN < FILE_LINES_MAX);

pub fn check(files: &[RustFile<'_>], allowances: &Allowances<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours = || files.iter().filter(|file| file.place.is_ours());
    for file in ours() {
        check_file(file, allowances, &mut findings);
        check_functions(file, allowances, &mut findings);
    }

    for allowed in allowances.files {
        let needed = ours().any(|file| file.path == allowed.path && lines(file) > FILE_LINES_WARN);
        if !needed {
            let message = format!(
                "its allowance of {} lines is no longer needed: remove it from tidy's table",
                allowed.lines
            );
            findings.push(Finding::new(allowed.path, None, message));
        }
    }
    for allowed in allowances.functions {
        let needed = ours().filter(|file| file.path == allowed.path).any(|file| {
            let functions = file.source.functions();
            functions
                .iter()
                .any(|function| function.name == allowed.name && function.lines > FUNCTION_LINES_MAX)
        });
        if !needed {
            let message = format!(
                "the allowance of {} lines for `{}` is no longer needed: remove it from tidy's table",
                allowed.lines, allowed.name
            );
            findings.push(Finding::new(allowed.path, None, message));
        }
    }
    findings
}

fn lines(file: &RustFile<'_>) -> usize {
    file.text.lines().count()
}

fn check_file(file: &RustFile<'_>, allowances: &Allowances<'_>, findings: &mut Vec<Finding>) {
    let lines = lines(file);
    if lines <= FILE_LINES_WARN {
        return;
    }
    let allowed = allowances.files.iter().find(|allowed| allowed.path == file.path);
    let message = match allowed {
        _ if lines > FILE_LINES_MAX => {
            format!("{lines} lines; no file has more than {FILE_LINES_MAX}: split it by concept")
        }
        None => format!(
            "{lines} lines; above {FILE_LINES_WARN} split it by concept, or record its size in tidy's table"
        ),
        Some(allowed) if lines > allowed.lines => {
            format!("{lines} lines, grown from the {} in tidy's table: split it by concept", allowed.lines)
        }
        Some(_) => return,
    };
    findings.push(Finding::new(file.path, None, message));
}

fn check_functions(file: &RustFile<'_>, allowances: &Allowances<'_>, findings: &mut Vec<Finding>) {
    for function in file.source.functions() {
        if function.lines <= FUNCTION_LINES_MAX {
            continue;
        }
        let allowed = allowances
            .functions
            .iter()
            .find(|allowed| allowed.path == file.path && allowed.name == function.name)
            .map_or(FUNCTION_LINES_MAX, |allowed| allowed.lines);
        if function.lines > allowed {
            let message = format!("`{}` has {} lines, {allowed} allowed", function.name, function.lines);
            findings.push(Finding::new(file.path, function.line, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::allowances::{LongFile, LongFunction};
    use super::super::testing::{accepts, finds};
    use super::super::{Tree, check_tree};
    use super::*;

    const PATH: &str = "crates/store/src/page.rs";

    fn file_of(lines: usize) -> String {
        format!("//! Pages.\n{}", "// line\n".repeat(lines - 1))
    }

    fn function_of(lines: usize) -> String {
        format!("//! Pages.\n\nfn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    fn messages(text: &str, allowances: &Allowances<'_>) -> Vec<String> {
        check_tree(&Tree::of(&[(PATH, text)]), allowances).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_long_file_is_found_unless_allowed_and_stops_growing() {
        accepts(PATH, &file_of(700));
        let allow = |lines| {
            messages(
                &file_of(lines),
                &Allowances { files: &[LongFile { path: PATH, lines: 800 }], functions: &[] },
            )
        };
        let none = Allowances { files: &[], functions: &[] };
        assert!(messages(&file_of(701), &none)[0].contains("701 lines; above 700"));
        assert_eq!(allow(800), Vec::<String>::new());
        assert_eq!(allow(750), Vec::<String>::new());
        assert!(allow(801)[0].contains("grown from the 800"));
        assert!(allow(700)[0].contains("no longer needed"));
    }

    #[test]
    fn no_allowance_lifts_the_ratchet() {
        let allowances = Allowances { files: &[LongFile { path: PATH, lines: 2000 }], functions: &[] };
        assert_eq!(messages(&file_of(1000), &allowances), Vec::<String>::new());
        assert!(messages(&file_of(1001), &allowances)[0].contains("no file has more than 1000"));
    }

    #[test]
    fn a_long_function_is_found_unless_allowed_and_stops_growing() {
        accepts(PATH, &function_of(100));
        finds(PATH, &function_of(101), 3, "`long` has 101 lines, 100 allowed");
        let allow = |lines| {
            let long = LongFunction { path: PATH, name: "long", lines: 120 };
            messages(&function_of(lines), &Allowances { files: &[], functions: &[long] })
        };
        assert_eq!(allow(120), Vec::<String>::new());
        assert!(allow(121)[0].contains("121 lines, 120 allowed"));
        assert!(allow(100)[0].contains("no longer needed"));
    }

    #[test]
    fn canisters_are_not_measured() {
        accepts("canisters/sample/src/lib.rs", &file_of(1200));
    }
}
