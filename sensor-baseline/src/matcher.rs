//! Matching of literal paths against path templates, in time linear in the path. Not the choice of what to match
//! (see `baseline`). May call: `object`, `text`.
//!
//! A template is matched segment by segment, so that neither `*` nor a class ever crosses a `/`, and `/**` begins at
//! one. Inside a segment only the last `*` can be retried; a class takes as much as it can.

use crate::object::PathText;
use crate::text::unit_len;

/// Names of one shape inside a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// `<num>`: decimal digits.
    Num,
    /// `<hex>`: at least [`HEX_DIGITS_MIN`] hexadecimal digits, then no letter or digit.
    Hex,
    /// `<hex2>`: two hexadecimal digits, then no letter or digit.
    Hex2,
    /// `<uuid>`: 8-4-4-4-12 hexadecimal digits.
    Uuid,
    /// `<date>`: `YYYY-MM-DD` or `YYYYMMDD`.
    Date,
    /// `<tmp>`: letters, digits and underscores that are no word.
    Tmp,
    /// `<tmp6>`: six letters and digits, as `mkstemp` makes them; no word where nothing else shows that they are made up,
    /// see [`is_tied`].
    Tmp6,
    /// `<tmp8>`: eight lower-case letters, digits and underscores, as Python makes them.
    Tmp8,
    /// `<tmp10>`: ten letters, digits and underscores, as `mktemp` and Perl make them.
    Tmp10,
}

/// Shortest run that `<hex>` matches.
pub(crate) const HEX_DIGITS_MIN: usize = 8;
/// Shortest run that `<tmp>` matches: the six of `mkstemp`.
pub(crate) const TMP_CHARS_MIN: usize = 6;
/// Longest run that `<tmp>` matches.
const TMP_CHARS_MAX: usize = 64;
/// Length of a UUID's text.
const UUID_LEN: usize = 36;

impl Class {
    const ALL: [Self; 9] = [
        Self::Num,
        Self::Hex,
        Self::Hex2,
        Self::Uuid,
        Self::Date,
        Self::Tmp,
        Self::Tmp6,
        Self::Tmp8,
        Self::Tmp10,
    ];

    /// The class as written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Num => "<num>",
            Self::Hex => "<hex>",
            Self::Hex2 => "<hex2>",
            Self::Uuid => "<uuid>",
            Self::Date => "<date>",
            Self::Tmp => "<tmp>",
            Self::Tmp6 => "<tmp6>",
            Self::Tmp8 => "<tmp8>",
            Self::Tmp10 => "<tmp10>",
        }
    }

    /// How much of the start of `text` is of this class.
    pub(crate) fn match_len(self, text: &str) -> Option<usize> {
        let bytes = text.as_bytes();
        match self {
            Self::Num => Some(run(bytes, |byte| byte.is_ascii_digit())).filter(|len| *len > 0),
            Self::Hex => hex_run(bytes).filter(|len| *len >= HEX_DIGITS_MIN),
            Self::Hex2 => hex_run(bytes).filter(|len| *len == 2),
            Self::Uuid => uuid_len(bytes),
            Self::Date => date_len(bytes),
            Self::Tmp => {
                let word = tmp_word(bytes);
                let fits = (TMP_CHARS_MIN..=TMP_CHARS_MAX).contains(&word.len());
                (fits && !is_word(word)).then_some(word.len())
            }
            Self::Tmp6 => tmp_len(bytes, 6, |byte| byte != b'_'),
            Self::Tmp8 => tmp_len(bytes, 8, |byte| !byte.is_ascii_uppercase()),
            Self::Tmp10 => tmp_len(bytes, 10, |_| true),
        }
    }
}

/// As [`Class::Tmp6`] where nothing says that names are made up.
pub(crate) fn untied_tmp6_len(text: &str) -> Option<usize> {
    Class::Tmp6.match_len(text).filter(|len| !is_word(&text.as_bytes()[..*len]))
}

/// The length of the run at the start that satisfies a predicate.
pub(crate) fn run(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| wanted(**byte)).count()
}

/// The letters, digits and underscores at the start.
fn tmp_word(bytes: &[u8]) -> &[u8] {
    &bytes[..run(bytes, is_tmp_byte)]
}

/// Whether it is what a person calls things: letters and underscores in one case, or behind a capital. Random names are
/// hardly ever.
fn is_word(text: &[u8]) -> bool {
    let has_digits = text.iter().any(u8::is_ascii_digit);
    let is_lower_behind = text.iter().skip(1).all(|byte| !byte.is_ascii_uppercase());
    !has_digits && (is_lower_behind || text.iter().all(|byte| !byte.is_ascii_lowercase()))
}

/// Whether what stands before six made-up characters says that they are: a temporary directory above, or in the name
/// something that programs put in front, `tmp_obj_`, `tmp` or `job.`. Elsewhere `.<tmp6>` would be `.bashrc`, too.
pub(crate) fn is_tied(above: &[&str], before: &str) -> bool {
    let word_len = before.bytes().rev().take_while(|byte| is_tmp_byte(*byte)).count();
    let word = &before[before.len() - word_len..];
    let is_set_apart = word.starts_with("tmp") || before.ends_with(['_', '.', '-']);
    TEMPORARY_DIRECTORIES.contains(&above)
        || (is_set_apart && before.contains(|ch: char| ch.is_ascii_alphanumeric()))
}

/// Where programs make files and folders with random names.
pub(crate) const TEMPORARY_DIRECTORIES: [&[&str]; 3] = [&["tmp"], &["var", "tmp"], &["dev", "shm"]];

const fn is_tmp_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// A run of exactly this many letters, digits and underscores, all of them wanted.
fn tmp_len(bytes: &[u8], len: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let word = tmp_word(bytes);
    (word.len() == len && word.iter().all(|byte| wanted(*byte))).then_some(len)
}

/// A run of hexadecimal digits that no letter or digit follows.
fn hex_run(bytes: &[u8]) -> Option<usize> {
    let len = run(bytes, |byte| byte.is_ascii_hexdigit());
    let follows = bytes.get(len).is_some_and(u8::is_ascii_alphanumeric);
    (len > 0 && !follows).then_some(len)
}

fn uuid_len(bytes: &[u8]) -> Option<usize> {
    let shaped = bytes.len() >= UUID_LEN
        && bytes[..UUID_LEN].iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let follows = bytes.get(UUID_LEN).is_some_and(u8::is_ascii_alphanumeric);
    (shaped && !follows).then_some(UUID_LEN)
}

fn date_len(bytes: &[u8]) -> Option<usize> {
    let number = |from: usize, to: usize| {
        let digits = bytes.get(from..to)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(digits.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0')))
    };
    let is_date = |year: u32, month: u32, day: u32| {
        (1900..2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)
    };
    let dashed = bytes.get(4) == Some(&b'-');
    let len = if dashed { 10 } else { 8 };
    let right = if dashed {
        bytes.get(7) == Some(&b'-') && is_date(number(0, 4)?, number(5, 7)?, number(8, 10)?)
    } else {
        is_date(number(0, 4)?, number(4, 6)?, number(6, 8)?)
    };
    let follows = bytes.get(len).is_some_and(u8::is_ascii_digit);
    (right && !follows).then_some(len)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Box<str>),
    Star,
    Class(Class),
    /// `<tmp6>` where nothing says that a name is made up: see [`is_tied`].
    UntiedTmp6,
}

/// One name of a template, made ready for matching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(Vec<Piece>);

impl Name {
    /// The name, when it is one only.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether the name of a literal path is one of these.
    pub(crate) fn matches(&self, name: &str) -> bool {
        segment_matches(&self.0, name)
    }
}

/// The names of a template, and whether `/**` follows: one more at least.
pub(crate) fn names_of(template: &PathText) -> (Vec<Name>, bool) {
    let text = template.as_str();
    let (text, is_any_below) = match text.strip_suffix("/**") {
        Some(above) => (above, true),
        None => (text, false),
    };
    let names: Vec<&str> = text.split('/').skip(1).collect();
    let names = names.iter().enumerate().map(|(at, name)| Name(pieces(&names[..at], name))).collect();
    (names, is_any_below)
}

/// A template made ready for matching.
#[derive(Debug, Clone)]
pub(crate) struct PathMatcher {
    names: Vec<Name>,
    /// Whether `/**` follows: one more segment at least.
    any_below: bool,
    /// What every path that it holds begins with: most paths that it does not hold do not.
    prefix: Box<str>,
    /// The longest text that stands in every path that it holds.
    needed: Box<str>,
}

impl PathMatcher {
    pub(crate) fn new(template: &PathText) -> Self {
        let (names, any_below) = names_of(template);
        let texts = literal_texts(&names, any_below);
        let prefix = texts.first().cloned().unwrap_or_default().into();
        let needed = texts.into_iter().max_by_key(String::len).unwrap_or_default().into();
        Self { names, any_below, prefix, needed }
    }

    /// A text that stands in every path that it holds, if there is one of more than a slash.
    pub(crate) fn needed_text(&self) -> Option<&str> {
        Some(&*self.needed).filter(|text| text.len() > 1)
    }

    /// Whether the template holds the path, whose text is literal.
    pub(crate) fn matches(&self, path: &str) -> bool {
        if !path.starts_with(&*self.prefix) {
            return false;
        }
        let mut given = path.split('/').skip(1);
        for name in &self.names {
            match given.next() {
                Some(given) if name.matches(given) => {}
                _ => return false,
            }
        }
        if self.any_below {
            given.next().is_some_and(|given| !given.is_empty())
        } else {
            given.next().is_none()
        }
    }

    /// Whether the template holds what stands from one of the path's slashes on: the place in any directory.
    pub(crate) fn matches_end(&self, path: &str) -> bool {
        let mut slashes = path.rmatch_indices('/');
        if self.any_below {
            slashes.any(|(at, _)| self.matches(&path[at..]))
        } else {
            let begin = slashes.nth(self.names.len().saturating_sub(1));
            begin.is_some_and(|(at, _)| self.matches(&path[at..]))
        }
    }
}

/// The texts of a template between what varies, slashes included; the first is what it begins with.
fn literal_texts(names: &[Name], any_below: bool) -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut add = |text: &str, is_next: bool| {
        if is_next {
            texts.push(String::new());
        }
        texts.last_mut().expect("there is one from the start").push_str(text);
    };
    for name in names {
        add("/", false);
        for piece in &name.0 {
            match piece {
                Piece::Literal(literal) => add(literal, false),
                Piece::Star | Piece::Class(_) | Piece::UntiedTmp6 => add("", true),
            }
        }
    }
    if any_below {
        add("/", false);
    }
    texts
}

/// A template of names that are no paths, made ready for matching: a `*` holds a `/` too.
#[derive(Debug, Clone)]
pub(crate) struct NameMatcher(Vec<Piece>);

impl NameMatcher {
    pub(crate) fn new(template: &str) -> Self {
        Self(pieces(&[], template))
    }

    /// Whether the template holds the name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        segment_matches(&self.0, name)
    }

    /// Whether it holds one name only.
    pub(crate) fn is_literal(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Literal(_)))
    }
}

/// The pieces of a name below the names above it.
fn pieces(above: &[&str], segment: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = segment;
    while !rest.is_empty() {
        let at = rest.find(['*', '<']).unwrap_or(rest.len());
        if at > 0 {
            pieces.push(Piece::Literal(rest[..at].into()));
            rest = &rest[at..];
            continue;
        }
        let class = Class::ALL.into_iter().find(|class| rest.starts_with(class.name()));
        let len = class.map_or(1, |class| class.name().len());
        let before = &segment[..segment.len() - rest.len()];
        pieces.push(match class {
            Some(Class::Tmp6) if !is_tied(above, before) => Piece::UntiedTmp6,
            Some(class) => Piece::Class(class),
            None => Piece::Star,
        });
        rest = &rest[len..];
    }
    pieces
}

fn segment_matches(pieces: &[Piece], name: &str) -> bool {
    let (mut piece, mut at) = (0, 0);
    // The piece after the last star, and how far that star reaches.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let len = match pieces.get(piece) {
            None if at == name.len() => return true,
            None => None,
            Some(Piece::Star) => {
                retry = Some((piece + 1, at));
                Some(0)
            }
            Some(Piece::Literal(literal)) => name[at..].starts_with(&**literal).then_some(literal.len()),
            Some(Piece::Class(class)) => class.match_len(&name[at..]),
            Some(Piece::UntiedTmp6) => untied_tmp6_len(&name[at..]),
        };
        if let Some(len) = len {
            piece += 1;
            at += len;
            continue;
        }
        let Some((after_star, reach)) = retry else { return false };
        if reach == name.len() {
            return false;
        }
        // Whole units, so that a star never takes half of a `\xNN`.
        let reach = reach + unit_len(&name[reach..]);
        retry = Some((after_star, reach));
        piece = after_star;
        at = reach;
    }
}

#[cfg(test)]
mod tests {
    use super::PathMatcher;
    use crate::object::PathText;

    fn matches(template: &str, path: &str) -> bool {
        PathMatcher::new(&PathText::parse(template).unwrap()).matches(PathText::literal(path).as_str())
    }

    #[test]
    fn a_star_stays_within_its_segment() {
        for (template, path, expected) in [
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/.log", true),
            ("/var/log/*.log", "/var/log/a/b.log", false),
            ("/var/log/*.log", "/var/log/a.log.gz", false),
            ("/var/*/x", "/var/a/x", true),
            ("/var/*/x", "/var/a/b/x", false),
            ("/a*b*c", "/abbc", true),
            ("/a*b*c", "/axxbyyc", true),
            ("/a*b*c", "/axxbyyd", false),
            ("/*a", "/x\\x0a", false),
            ("/\\x2a", "/*", true),
            ("/\\x2a", "/a", false),
        ] {
            assert_eq!(matches(template, path), expected, "{template}: {path}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_slash() {
        assert!(matches("/usr/bin/**", "/usr/bin/a/b"));
        assert!(matches("/**", "/a"));
        assert!(!matches("/usr/bin/**", "/usr/bin"));
        assert!(!matches("/usr/bin/**", "/usr/bin2/a"));
        assert!(!matches("/**", "/"));
    }

    #[test]
    fn a_class_holds_only_names_of_its_shape() {
        for (template, path, expected) in [
            ("/proc/<num>/stat", "/proc/12345/stat", true),
            ("/proc/<num>/stat", "/proc/self/stat", false),
            ("/x.<num>", "/x.1a", false),
            ("/<hex>.o", "/3f2a9c1d00.o", true),
            ("/<hex>.o", "/3f2a9c1g00.o", false),
            ("/<hex2>/x", "/ab/x", true),
            ("/<hex2>/x", "/abc/x", false),
            ("/<uuid>", "/123e4567-e89b-12d3-a456-426614174000", true),
            ("/<uuid>", "/123e4567-e89b-12d3-a456-42661417400", false),
            ("/a-<date>.log", "/a-2026-11-23.log", true),
            ("/a-<date>.log", "/a-20261123.log", true),
            ("/a-<date>.log", "/a-2026-13-23.log", false),
            ("/cc<tmp>.o", "/ccA1b2C3.o", true),
            ("/cc<tmp>.o", "/ccA1.o", false),
            ("/tmp/<tmp>", "/tmp/backdoor", false),
            ("/tmp/<tmp>", "/tmp/XAbCd12Ef", true),
            ("/srv/<tmp>/x", "/srv/wp_content/x", false),
            ("/srv/<tmp>/x", "/srv/Uploads/x", false),
            ("/srv/<tmp6>.php", "/srv/a1B2c3.php", true),
            ("/srv/<tmp6>.php", "/srv/config.php", false),
            ("/srv/we<tmp6>/x", "/srv/websites/x", false),
            ("/home/u/.<tmp6>", "/home/u/.bashrc", false),
            ("/srv/tmp_obj_<tmp6>", "/srv/tmp_obj_abcdef", true),
            ("/srv/.tmp<tmp6>", "/srv/.tmpabcdef", true),
            ("/tmp/cc<tmp6>.o", "/tmp/ccabcdef.o", true),
            ("/tmp/foo.<tmp6>", "/tmp/foo.abCD12", true),
            ("/tmp/foo.<tmp6>", "/tmp/foo.abCD123", false),
            ("/tmp/foo.<tmp6>", "/tmp/foo.abCD12.sh", false),
            ("/tmp/foo.<tmp6>", "/tmp/foo.ab_D12", false),
            ("/tmp/foo.<tmp6>", "/tmp/foo.abCD1\\x2a", false),
            ("/tmp/<tmp8>", "/tmp/b_ckvcs9", true),
            ("/tmp/<tmp8>", "/tmp/b_ckvcS9", false),
            ("/tmp/<tmp8>", "/tmp/b_ckvcs", false),
            ("/tmp/tmp.<tmp10>", "/tmp/tmp.AbCdEfGhIj", true),
            ("/tmp/tmp.<tmp10>", "/tmp/tmp.AbCdEfGhI", false),
            ("/*-<num>", "/a-b-12", true),
        ] {
            assert_eq!(matches(template, path), expected, "{template}: {path}");
        }
    }

    #[test]
    fn every_class_can_be_written() {
        let names: Vec<&str> = super::Class::ALL.into_iter().map(super::Class::name).collect();
        assert_eq!(names, crate::object::CLASS_NAMES);
    }

    #[test]
    fn a_place_in_any_directory_is_found_at_each_depth() {
        let check = |template: &str, path: &str, expected: bool| {
            let matcher = PathMatcher::new(&PathText::parse(template).unwrap());
            assert_eq!(matcher.matches_end(path), expected, "{template}: {path}");
        };
        check("/.ssh/*", "/.ssh/a", true);
        check("/.ssh/*", "/home/u/.ssh/a", true);
        check("/.ssh/*", "/home/u/.ssh/a/b", false);
        check("/.ssh/*", "/home/u.ssh/a", false);
        check("/.ssh/**", "/home/u/.ssh/a/b", true);
        check("/.ssh/**", "/home/u/.ssh", false);
        check("/x", "/", false);
    }

    #[test]
    fn a_star_of_a_name_crosses_slashes() {
        let names = super::NameMatcher::new("cgroup:/a*c");
        assert!(names.matches("cgroup:/a/b/c") && !names.matches("cgroup:/a/b/d") && !names.is_literal());
        assert!(super::NameMatcher::new("unit:a.service").is_literal());
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let template = format!("/{}b", "a*".repeat(60));
        assert!(!matches(&template, &format!("/{}", "a".repeat(255))));
    }

    /// Whether a segment's template holds a name, by trying every length for every star.
    fn holds_slowly(template: &str, name: &str) -> bool {
        let Some(first) = template.chars().next() else { return name.is_empty() };
        if first == '*' {
            let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            return ends.any(|at| holds_slowly(&template[1..], &name[at..]));
        }
        if let Some(class) = super::Class::ALL.into_iter().find(|class| template.starts_with(class.name())) {
            let rest = &template[class.name().len()..];
            return class.match_len(name).is_some_and(|len| holds_slowly(rest, &name[len..]));
        }
        name.strip_prefix(first).is_some_and(|rest| holds_slowly(&template[first.len_utf8()..], rest))
    }

    proptest::proptest! {
        #[test]
        fn a_template_holds_what_trying_everything_finds(
            template in proptest::collection::vec("(a|1|é|-|\\*|<num>|<hex2>){0,5}", 1..4),
            name in proptest::collection::vec("[a1é-]{0,8}", 1..4),
        ) {
            let path = format!("/{}", name.join("/"));
            let Ok(template_path) = PathText::parse(&format!("/{}", template.join("/"))) else { return Ok(()) };
            let slowly = template.len() == name.len()
                && template.iter().zip(&name).all(|(template, name)| holds_slowly(template, name));
            let held = PathMatcher::new(&template_path).matches(&path);
            // A template whose end is `/**` is not this test's matter.
            if !template_path.as_str().ends_with("/**") {
                proptest::prop_assert_eq!(held, slowly, "{} {}", template_path, path);
            }
        }
    }
}
