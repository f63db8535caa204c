//! Objects of behaviours and their text form: paths (literal or template), renames, endpoints. Not the wider
//! patterns that people write into a baseline (see `pattern`). May call: `text`.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

use crate::model::Action;
use crate::text::{escape, unescape};

/// A text that is not an object of that action.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected {expected}, found {found:?}")]
pub struct ObjectError {
    /// What would have been right.
    pub expected: &'static str,
    /// The text that stood there, shortened when long.
    pub found: String,
}

impl ObjectError {
    pub(crate) fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.chars().take(FOUND_CHARS_MAX).collect() }
    }
}

/// How much of a wrong text an error repeats.
const FOUND_CHARS_MAX: usize = 200;

/// The text of a path in entry form: escaped as [`crate::text::escape`] does, and a literal `*` or `<` written
/// `\x2a` or `\x3c`, so that a bare one is always a wildcard or the start of a class such as `<num>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathText(String);

impl PathText {
    /// The path that stands for exactly this name, which is text made by [`crate::text::escape`].
    #[must_use]
    pub fn literal(escaped: &str) -> Self {
        if escaped.contains(['*', '<']) {
            return Self(escaped.replace('*', STAR_ESCAPED).replace('<', CLASS_ESCAPED));
        }
        Self(escaped.to_owned())
    }

    /// Reads entry form, in which a bare `*` is a wildcard and `<` starts a class. The result is canonical: a
    /// needless escape is undone.
    ///
    /// # Errors
    /// When the path is relative or not normalised, or when an escape, a wildcard or a class is wrong.
    pub fn parse(text: &str) -> Result<Self, ObjectError> {
        check_shape(text)?;
        let mut canonical = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(['*', '<']) {
            canonical.push_str(&canonical_literal(&rest[..at])?);
            let len = if rest[at..].starts_with('*') { 1 } else { class_len(&rest[at..])? };
            canonical.push_str(&rest[at..at + len]);
            rest = &rest[at + len..];
        }
        canonical.push_str(&canonical_literal(rest)?);
        // Again, since an escape may have hidden a dot.
        check_shape(&canonical)?;
        check_wildcards(&canonical)?;
        Ok(Self(canonical))
    }

    /// A template made by this crate from pieces that are canonical already.
    pub(crate) fn from_canonical(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for exactly one name.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '<'])
    }
}

impl fmt::Display for PathText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Transport protocol of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP: a peer that was sent something.
    Udp,
}

impl Protocol {
    /// The word for it: `tcp`, `udp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The protocol with that word.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| protocol.name() == name)
    }
}

/// One peer of a connection, or what a listener is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Transport.
    pub protocol: Protocol,
    /// Address; for a listener `0.0.0.0` or `::` is every address.
    pub address: IpAddr,
    /// Port in host order.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.protocol.name(), self.address, self.port)
    }
}

/// What an action acts on. Which variant fits follows from the action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// Of exec, write and delete.
    Path(PathText),
    /// Of rename.
    Rename {
        /// The old name.
        from: PathText,
        /// The new name.
        to: PathText,
    },
    /// Of connect and listen.
    Endpoint(Endpoint),
}

impl Object {
    /// The object that is exactly this path; the text comes from [`crate::text::escape`].
    #[must_use]
    pub fn path(escaped: &str) -> Self {
        Self::Path(PathText::literal(escaped))
    }

    /// The object that is exactly this rename; the texts come from [`crate::text::escape`].
    #[must_use]
    pub fn rename(from_escaped: &str, to_escaped: &str) -> Self {
        Self::Rename { from: PathText::literal(from_escaped), to: PathText::literal(to_escaped) }
    }

    /// Reads what `Display` wrote, for an object of `action`.
    ///
    /// # Errors
    /// When the text is not an object of that action.
    pub fn parse(action: Action, text: &str) -> Result<Self, ObjectError> {
        match action {
            Action::Exec | Action::Write | Action::Delete => Ok(Self::Path(PathText::parse(text)?)),
            Action::Rename => {
                let (from, to) = parse_rename(text)?;
                Ok(Self::Rename { from, to })
            }
            Action::Connect => Ok(Self::Endpoint(parse_endpoint(text)?)),
            Action::Listen => match parse_endpoint(text)? {
                endpoint @ Endpoint { protocol: Protocol::Tcp, .. } => Ok(Self::Endpoint(endpoint)),
                Endpoint { protocol: Protocol::Udp, .. } => Err(ObjectError::new("tcp ADDRESS PORT", text)),
            },
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(formatter),
            Self::Rename { from, to } => write_rename(formatter, from, to),
            Self::Endpoint(endpoint) => endpoint.fmt(formatter),
        }
    }
}

/// Writes `OLD -> NEW`. An arrow inside the old name that could be taken for the separator has its `>` escaped.
pub(crate) fn write_rename(
    formatter: &mut fmt::Formatter<'_>,
    from: &PathText,
    to: &PathText,
) -> fmt::Result {
    let from = from.as_str().replace(RENAME_SEPARATOR, RENAME_SEPARATOR_ESCAPED);
    write!(formatter, "{from} -> {to}")
}

/// Reads `OLD -> NEW`; the first ` -> ` before a `/` separates.
pub(crate) fn parse_rename(text: &str) -> Result<(PathText, PathText), ObjectError> {
    let wrong = || ObjectError::new("/OLD/PATH -> /NEW/PATH", text);
    let at = text.find(RENAME_SEPARATOR).ok_or_else(wrong)?;
    let from = PathText::parse(&text[..at])?;
    let to = PathText::parse(&text[at + RENAME_SEPARATOR.len() - 1..])?;
    Ok((from, to))
}

/// Reads a port number.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

fn parse_endpoint(text: &str) -> Result<Endpoint, ObjectError> {
    let wrong = || ObjectError::new("tcp ADDRESS PORT or udp ADDRESS PORT", text);
    let mut words = text.split(' ');
    let (Some(protocol), Some(address), Some(port), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(wrong());
    };
    let protocol = Protocol::parse(protocol).ok_or_else(wrong)?;
    let address = address.parse().map_err(|_| wrong())?;
    let port = parse_port(port).ok_or_else(wrong)?;
    Ok(Endpoint { protocol, address, port })
}

/// What must hold before any escape is looked at.
fn check_shape(text: &str) -> Result<(), ObjectError> {
    if !text.starts_with('/') {
        return Err(ObjectError::new("an absolute path", text));
    }
    if text.len() > PATH_TEXT_BYTES_MAX {
        return Err(ObjectError::new("a path of at most 16384 bytes", text));
    }
    if text.chars().any(char::is_control) {
        return Err(ObjectError::new("a path on one line, with control characters written \\xNN", text));
    }
    let mut segments = text[1..].split('/');
    if text != "/" && segments.any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(ObjectError::new("a path without \".\", \"..\", \"//\" or a \"/\" at its end", text));
    }
    Ok(())
}

/// The canonical spelling of a piece without wildcards.
fn canonical_literal(piece: &str) -> Result<String, ObjectError> {
    let bytes = unescape(piece)
        .map_err(|_| ObjectError::new("\\xNN with two hexadecimal digits after a backslash", piece))?;
    if piece.contains('\\')
        && bytes.iter().filter(|byte| **byte == b'/').count() != piece.matches('/').count()
    {
        return Err(ObjectError::new("a \"/\" written as itself", piece));
    }
    Ok(PathText::literal(&escape(&bytes)).0)
}

/// The length of the class at the start of `text`.
fn class_len(text: &str) -> Result<usize, ObjectError> {
    CLASS_NAMES.iter().find(|name| text.starts_with(**name)).map(|name| name.len()).ok_or_else(|| {
        const EXPECTED: &str = "<num>, <hex>, <hex2>, <uuid>, <date>, <tmp>, <tmp6>, <tmp8> or <tmp10> \
                                (a plain \"<\" is \\x3c)";
        ObjectError::new(EXPECTED, text)
    })
}

/// `**` is a whole last segment or nothing.
fn check_wildcards(canonical: &str) -> Result<(), ObjectError> {
    let Some(at) = canonical.find("**") else { return Ok(()) };
    if at + 2 == canonical.len() && canonical[..at].ends_with('/') {
        return Ok(());
    }
    Err(ObjectError::new("\"**\" only as the whole last segment", canonical))
}

/// Every token class, as written.
pub(crate) const CLASS_NAMES: [&str; 9] =
    ["<num>", "<hex>", "<hex2>", "<uuid>", "<date>", "<tmp>", "<tmp6>", "<tmp8>", "<tmp10>"];

/// Longest text of a path: the kernel's longest path with every byte escaped.
pub const PATH_TEXT_BYTES_MAX: usize = 4 * 4096;

const STAR_ESCAPED: &str = "\\x2a";
const CLASS_ESCAPED: &str = "\\x3c";
const RENAME_SEPARATOR: &str = " -> /";
const RENAME_SEPARATOR_ESCAPED: &str = " -\\x3e /";

#[cfg(test)]
mod tests {
    use super::{Object, PathText};
    use crate::model::Action;
    use crate::text::escape;

    fn check_error(action: Action, text: &str, message: &str) {
        let error = Object::parse(action, text).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }

    #[test]
    fn texts_of_every_action_parse_back() {
        for (action, text) in [
            (Action::Exec, "/bin/sh"),
            (Action::Write, "/var/log/*.log"),
            (Action::Write, "/srv/**"),
            (Action::Write, "/"),
            (Action::Delete, "/tmp/x\\x0ay"),
            (Action::Rename, "/a -> /b"),
            (Action::Rename, "/a -> -> /b"),
            (Action::Connect, "tcp 10.0.0.1 5432"),
            (Action::Connect, "udp ::1 53"),
            (Action::Listen, "tcp :: 80"),
        ] {
            assert_eq!(Object::parse(action, text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_literal_star_or_angle_is_not_a_wildcard() {
        let path = PathText::literal("/tmp/*<num>");
        assert_eq!(path.as_str(), "/tmp/\\x2a\\x3cnum>");
        assert!(path.is_literal());
        assert!(!PathText::parse("/tmp/<num>").unwrap().is_literal());
    }

    #[test]
    fn a_needless_escape_is_undone() {
        assert_eq!(PathText::parse("/\\x41\\xc3\\xa9\\x2a").unwrap().as_str(), "/Aé\\x2a");
    }

    #[test]
    fn wrong_texts_say_what_was_expected() {
        check_error(Action::Exec, "bin/sh", "expected an absolute path, found \"bin/sh\"");
        check_error(Action::Exec, "/a/../b", "without");
        check_error(Action::Exec, "/a//b", "without");
        check_error(Action::Exec, "/a/\\x2e\\x2e/b", "without");
        check_error(Action::Exec, "/a/\\x2e", "without");
        check_error(Action::Exec, "/a/", "without");
        check_error(Action::Exec, "/a\\n", "expected \\xNN with");
        check_error(Action::Exec, "/a\\x2fb", "written as itself");
        check_error(Action::Write, "/a/**/b", "only as the whole last segment");
        check_error(Action::Write, "/a/<pid>", "<num>");
        check_error(Action::Rename, "/a", "/OLD/PATH -> /NEW/PATH");
        check_error(Action::Connect, "tcp 10.0.0.1", "tcp ADDRESS PORT");
        check_error(Action::Connect, "tcp 10.0.0.1 65536", "tcp ADDRESS PORT");
        check_error(Action::Connect, "sctp 10.0.0.1 53", "tcp ADDRESS PORT or udp ADDRESS PORT");
        check_error(Action::Listen, "udp 10.0.0.1 53", "expected tcp ADDRESS PORT");
    }

    proptest::proptest! {
        #[test]
        fn any_rename_parses_back(from in "[ ->/a*<\\\\\n]{0,12}", to in "[ ->/a*<\\\\\n]{0,12}") {
            let name = |tail: &str| format!("/x{}", escape(tail.replace('/', "/y").as_bytes()));
            let object = Object::rename(&name(&from), &name(&to));
            proptest::prop_assert_eq!(Object::parse(Action::Rename, &object.to_string()).unwrap(), object);
        }
    }
}
