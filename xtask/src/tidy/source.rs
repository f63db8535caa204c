//! What one Rust file must keep: a first line that says what it is, its size, its functions' sizes, and where
//! `unsafe` may stand. Not style that rustfmt or clippy holds. Pure: text in, problems out.

use proc_macro2::Span;
use std::path::Path;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines of code above the tests.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, signature and braces included.
const FUNCTION_LINES_MAX: usize = 70;
/// The only places where `unsafe` may stand: the product's two, and the actors' system calls in the kernel tests.
const UNSAFE_FOLDERS: &[&str] =
    &["sensor-ebpf/", "sensor-agent/src/kernel/", "sensor-agent/tests/kernel/raw"];

/// Problems of one file; `file` is relative to the workspace.
pub(super) fn check(file: &Path, text: &str) -> Vec<String> {
    let name = file.display().to_string();
    let mut problems = Vec::new();
    // A test file's first line may be its own attribute; everything else starts with its module documentation.
    if !text.lines().find(|line| !line.starts_with("#!")).is_some_and(|line| line.starts_with("//!")) {
        problems.push(format!("{name}:1: the first line must be `//!`: what the file is and is not"));
    }
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
    if lines > FILE_LINES_MAX {
        problems.push(format!("{name}: {lines} lines above the tests, limit {FILE_LINES_MAX}"));
    }
    match syn::parse_file(text) {
        Ok(syntax) => {
            let mut visitor = Visitor { unsafe_allowed: is_unsafe_allowed(&name), problems: Vec::new() };
            visitor.visit_file(&syntax);
            problems
                .extend(visitor.problems.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")));
        }
        Err(error) => problems.push(format!("{name}:{}: {error}", error.span().start().line)),
    }
    problems
}

fn is_unsafe_allowed(name: &str) -> bool {
    UNSAFE_FOLDERS.iter().any(|folder| name.starts_with(folder))
}

struct Visitor {
    unsafe_allowed: bool,
    problems: Vec<(usize, String)>,
}

impl Visitor {
    fn check_length(&mut self, what: &syn::Ident, body: Span) {
        let lines = body.end().line - body.start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            let problem = format!("function {what} has {lines} lines, limit {FUNCTION_LINES_MAX}");
            self.problems.push((body.start().line, problem));
        }
    }

    fn forbid_unsafe(&mut self, span: Span) {
        if !self.unsafe_allowed {
            self.problems.push((span.start().line, "unsafe code outside its two places".to_owned()));
        }
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.check_length(&item.sig.ident, item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.check_length(&item.sig.ident, item.block.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.forbid_unsafe(block.span());
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(keyword) = item.unsafety {
            self.forbid_unsafe(keyword.span());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(keyword) = signature.unsafety {
            self.forbid_unsafe(keyword.span());
        }
        visit::visit_signature(self, signature);
    }
}

#[cfg(test)]
mod tests {
    use super::{FUNCTION_LINES_MAX, check};
    use std::path::Path;

    fn problems(file: &str, text: &str) -> usize {
        check(Path::new(file), text).len()
    }

    #[test]
    fn a_file_starts_with_what_it_is() {
        assert_eq!(problems("a/src/b.rs", "//! A file.\nfn f() {}\n"), 0);
        assert_eq!(problems("a/src/b.rs", "fn f() {}\n"), 1);
    }

    #[test]
    fn unsafe_stands_in_two_places_only() {
        let text = "//! A file.\nfn f() { unsafe { g() } }\n";
        assert_eq!(problems("sensor-agent/src/kernel/map.rs", text), 0);
        assert_eq!(problems("sensor-agent/src/pipeline.rs", text), 1);
    }

    #[test]
    fn long_functions_are_reported() {
        let body = "let _ = 1;\n".repeat(FUNCTION_LINES_MAX);
        assert_eq!(problems("a/src/b.rs", &format!("//! A file.\nfn f() {{\n{body}}}\n")), 1);
    }
}
