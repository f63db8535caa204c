//! Which parts of a file's name vary by nature: numbers, hashes, dates, temporary names. Not matching (see
//! `matcher`). May call: `matcher`, `model`, `object`.
//!
//! A template is made from one observation alone, so learning does not depend on order, and hosts that saw different
//! names of one shape agree. It never replaces an alphabetic name, and never touches the path of a program: what is
//! executed is always named in full.

use crate::matcher::{Class, HEX_DIGITS_MIN, TEMPORARY_DIRECTORIES, TMP_CHARS_MIN, run};
use crate::model::{Action, Behaviour, Observation};
use crate::object::{Object, PathText};
use crate::text::unit_len;

/// The behaviour to learn from an observation.
#[must_use]
pub(crate) fn template(observation: &Observation) -> Behaviour {
    let behaviour = &observation.behaviour;
    let known =
        Known { is_ephemeral: observation.traits.ephemeral, folders: observation.traits.folders_made };
    let target = Known { is_ephemeral: false, folders: observation.traits.target_folders_made };
    let object = match (&behaviour.object, behaviour.action) {
        (Object::Path(path), Action::Write | Action::Delete) => Object::Path(template_path(path, known)),
        (Object::Rename { from, to }, Action::Rename) => {
            Object::Rename { from: template_path(from, known), to: template_path(to, target) }
        }
        (object, _) => object.clone(),
    };
    Behaviour { object, ..behaviour.clone() }
}

/// What was seen of a path's names being made.
#[derive(Clone, Copy)]
struct Known {
    /// The last one.
    is_ephemeral: bool,
    /// Those of folders, by their place.
    folders: u64,
}

impl Known {
    fn is_folder(self, at: usize) -> bool {
        at < u64::BITS as usize && self.folders & (1 << at) != 0
    }
}

fn template_path(path: &PathText, known: Known) -> PathText {
    if !path.is_literal() || !path.as_str().starts_with('/') {
        return path.clone();
    }
    let names: Vec<&str> = path.as_str()[1..].split('/').collect();
    let mut out = String::with_capacity(path.as_str().len());
    for (at, name) in names.iter().enumerate() {
        out.push('/');
        if is_object_folder(&names, at) {
            out.push_str(Class::Hex2.name());
            continue;
        }
        let is_last = at + 1 == names.len();
        let is_made = known.is_folder(at);
        let is_exclusive = is_made || (known.is_ephemeral && is_last);
        let hint = match (is_exclusive, TEMPORARY_DIRECTORIES.contains(&&names[..at])) {
            (true, true) => Hint::ExclusiveTemporary,
            (true, false) if is_made => Hint::Folder,
            (true, false) => Hint::Exclusive,
            (false, true) if is_last => Hint::Temporary,
            (false, true) => Hint::TemporaryFolder,
            (false, false) => Hint::None,
        };
        push_name(&mut out, name, hint);
    }
    PathText::from_canonical(out)
}

/// What is known of a name apart from its letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hint {
    None,
    /// It stands in a directory for temporary files.
    Temporary,
    /// It is a folder there; making a folder is no event, so how it was made is not known.
    TemporaryFolder,
    /// It was created exclusively, in any other directory.
    Exclusive,
    /// It is a folder that was just made, in any other directory.
    Folder,
    /// It was created exclusively, in a directory for temporary files.
    ExclusiveTemporary,
}

/// Whether the name is a two-digit folder of an object store: a hash follows, or `objects` stands above it.
fn is_object_folder(names: &[&str], at: usize) -> bool {
    let is_two_digits = Class::Hex2.match_len(names[at]) == Some(names[at].len());
    let follows_hash = names.get(at + 1).is_some_and(|next| is_hash(next));
    is_two_digits && (follows_hash || (at > 0 && names[at - 1] == "objects"))
}

/// Whether a whole name is a hash, as below the two-digit directories of an object store.
fn is_hash(name: &str) -> bool {
    name.len() >= OBJECT_NAME_DIGITS_MIN && Class::Hex.match_len(name) == Some(name.len())
}

/// Shortest name below a two-digit directory that makes it part of an object store: a SHA-1 without two digits, or
/// a shorter hash.
const OBJECT_NAME_DIGITS_MIN: usize = 30;

/// Appends one segment, token by token. A token begins where no letter or digit stands before.
fn push_name(out: &mut String, name: &str, hint: Hint) {
    let mut at = 0;
    while at < name.len() {
        let rest = &name[at..];
        let word = run(rest.as_bytes(), |byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if let Some((fixed, class)) = temporary_part(&name[..at], &rest[..word], &rest[word..], hint) {
            out.push_str(&rest[..fixed]);
            out.push_str(class.name());
            at += word;
            continue;
        }
        let token = run(rest.as_bytes(), |byte| byte.is_ascii_alphanumeric());
        if token == 0 {
            let len = unit_len(rest);
            out.push_str(&rest[..len]);
            at += len;
            continue;
        }
        if let Some((class, len)) = classify(rest, token) {
            out.push_str(class.name());
            at += len;
        } else {
            out.push_str(&rest[..token]);
            at += token;
        }
    }
}

/// The class of the token at the start, and how much of the text it takes.
fn classify(rest: &str, token: usize) -> Option<(Class, usize)> {
    if let Some(len) = Class::Uuid.match_len(rest) {
        return Some((Class::Uuid, len));
    }
    if let Some(len) = Class::Date.match_len(rest).filter(|len| *len >= token) {
        return Some((Class::Date, len));
    }
    let word = &rest.as_bytes()[..token];
    if word.iter().all(u8::is_ascii_digit) {
        return Some((Class::Num, token));
    }
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    let one_case = !(word.iter().any(u8::is_ascii_uppercase) && word.iter().any(u8::is_ascii_lowercase));
    let is_hex = token >= HEX_DIGITS_MIN && word.iter().all(u8::is_ascii_hexdigit);
    (is_hex && digits > 0 && one_case).then_some((Class::Hex, token))
}

/// How much of a word of a temporary name stays, and the class of the rest; none when no part looks random. Knows
/// `mkstemp` (six letters and digits behind a prefix), `mktemp` (`tmp.` and ten), Perl (ten) and Python (`tmp` and
/// eight of its own alphabet; eight alone when it tries whether it can write to a directory).
fn temporary_part(before: &str, word: &str, after: &str, hint: Hint) -> Option<(usize, Class)> {
    const PYTHON_PREFIX: &str = "tmp";
    let is_of = |class: Class, text: &str| class.match_len(text) == Some(text.len());
    // LLVM's linker, in the folder of what it makes: `tmp` and seven hexadecimal digits behind a dot.
    let is_hex = |rest: &str| {
        rest.len() == LLVM_DIGITS && rest.bytes().all(|byte| byte.is_ascii_hexdigit()) && !is_one_kind(rest)
    };
    if before.ends_with('.')
        && word.strip_prefix(PYTHON_PREFIX).is_some_and(is_hex)
        && is_of(Class::Tmp, word)
    {
        return Some((0, Class::Tmp));
    }
    if hint == Hint::None {
        return None;
    }
    if before == "tmp." && is_of(Class::Tmp10, word) {
        return Some((0, Class::Tmp10));
    }
    if word.strip_prefix(PYTHON_PREFIX).is_some_and(|rest| is_of(Class::Tmp8, rest)) {
        return Some((PYTHON_PREFIX.len(), Class::Tmp8));
    }
    if hint == Hint::ExclusiveTemporary && after.is_empty() {
        match before {
            "" if is_of(Class::Tmp8, word) => return Some((0, Class::Tmp8)),
            "" if is_of(Class::Tmp10, word) && mixes_cases(word) => return Some((0, Class::Tmp10)),
            _ if before.len() > 1 && before.ends_with('.') && is_of(Class::Tmp6, word) => {
                return Some((0, Class::Tmp6));
            }
            // Python behind a prefix.
            _ if before.ends_with('-') && is_of(Class::Tmp8, word) && !is_one_kind(word) => {
                return Some((0, Class::Tmp8));
            }
            _ => {}
        }
    }
    let fixed = word.len().checked_sub(TMP_CHARS_MIN)?;
    // What counts in base 36 is made up as a whole: a time and a hash have no prefix.
    let is_base36 = word.len() >= BASE36_CHARS_MIN && !mixes_cases(word) && has_number_inside(word);
    if hint == Hint::Folder && is_base36 && is_of(Class::Tmp, word) {
        return Some((0, Class::Tmp));
    }
    let (prefix, random) = word.split_at(fixed);
    if !is_of(Class::Tmp6, random) || !looks_random(before, prefix, random, hint) {
        return None;
    }
    let prefix_is_a_word = prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match prefix_is_a_word {
        true => Some((fixed, Class::Tmp6)),
        false => Class::Tmp.match_len(word).map(|_| (0, Class::Tmp)),
    }
}

/// Random digits of LLVM's temporary files, `sys::fs::TempFile`.
const LLVM_DIGITS: usize = 7;
/// Shortest word of one case that is taken for a number in base 36.
const BASE36_CHARS_MIN: usize = 10;

/// Whether a word has letters only: a word of a language may have eight as well.
fn is_one_kind(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Whether six letters and digits are random rather than a person's choice, for what is known of their name.
fn looks_random(before: &str, prefix: &str, random: &str, hint: Hint) -> bool {
    let digits = random.bytes().filter(u8::is_ascii_digit).count();
    if digits == random.len() {
        return false;
    }
    // Words with a number, such as `report2024`, and camel case are a person's choice where nothing sets them apart.
    let is_set_apart = prefix.starts_with("tmp")
        || prefix.ends_with('_')
        || (prefix.is_empty() && before.ends_with(['.', '-']));
    match hint {
        Hint::None | Hint::Temporary => false,
        Hint::TemporaryFolder => mixes_cases(random),
        Hint::Exclusive => (is_set_apart && (digits > 0 || mixes_cases(random))) || has_number_inside(random),
        // As `tempfile` makes them behind a word: `target` and six.
        Hint::Folder => {
            let is_word = prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            let is_tied = is_set_apart || is_word;
            (is_tied && mixes_cases(random)) || (is_set_apart && digits > 0) || has_number_inside(random)
        }
        Hint::ExclusiveTemporary => digits > 0 || mixes_cases(random),
    }
}

/// Whether there are digits elsewhere than at the end, where a person would number something.
pub(crate) fn has_number_inside(word: &str) -> bool {
    word.trim_end_matches(|last: char| last.is_ascii_digit()).contains(|letter: char| letter.is_ascii_digit())
}

/// Whether upper and lower case are mixed, other than by a capital.
pub(crate) fn mixes_cases(word: &str) -> bool {
    word.bytes().skip(1).any(|byte| byte.is_ascii_uppercase())
        && word.bytes().any(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::template;
    use crate::matcher::PathMatcher;
    use crate::model::{Action, Behaviour, Traits};
    use crate::object::Object;
    use crate::testing::{any_path, behaviour, observation, observations};

    fn learned(action: &str, object: &str, ephemeral: bool) -> String {
        let traits = Traits { ephemeral, ..Traits::default() };
        template(&observation(behaviour(action, object), traits)).object.to_string()
    }

    #[test]
    fn tokens_that_vary_by_nature_become_classes() {
        for (path, expected) in [
            ("/proc/12345/oom_score_adj", "/proc/<num>/oom_score_adj"),
            ("/run/worker-7.pid", "/run/worker-<num>.pid"),
            ("/var/log/syslog.1", "/var/log/syslog.<num>"),
            ("/var/log/a-2026-11-23.log", "/var/log/a-<date>.log"),
            ("/var/log/a-20261123.log", "/var/log/a-<date>.log"),
            ("/x/123e4567-e89b-12d3-a456-426614174000.json", "/x/<uuid>.json"),
            ("/x/3f2a9c1d.o", "/x/<hex>.o"),
            ("/r/.git/objects/ab/0123456789abcdef0123456789abcdef012345", "/r/.git/objects/<hex2>/<hex>"),
            ("/tmp/a\\x0a12", "/tmp/a\\x0a<num>"),
        ] {
            assert_eq!(learned("write", path, false), expected);
        }
    }

    #[test]
    fn names_stay_as_they_are() {
        for path in [
            "/etc/passwd",
            "/dev/tty1",
            "/usr/lib64/x",
            "/x/deadbeef",
            "/x/feedface.cafe",
            "/r/ab/cd",
            "/tmp/wUeCas",
            "/tmp/MyProject/x",
            "/tmp/build2024x/a",
            "/srv/wUeCas/x",
            "/srv/tmprgsvbupz",
        ] {
            assert_eq!(learned("write", path, false), path);
        }
        for path in ["/etc/passwd", "/tmp/ab"] {
            assert_eq!(learned("delete", path, false), path);
        }
        assert_eq!(learned("exec", "/opt/12345/3f2a9c1d", true), "/opt/12345/3f2a9c1d");
    }

    #[test]
    fn folders_with_random_names_are_known_by_where_they_stand() {
        for (path, expected) in [
            ("/tmp/tmprgsvbupz/x", "/tmp/tmp<tmp8>/x"),
            ("/tmp/tmp.AbCdEfGhIj/x", "/tmp/tmp.<tmp10>/x"),
            ("/var/tmp/.tmpwUeCas/x", "/var/tmp/.tmp<tmp6>/x"),
            ("/r/.git/objects/da", "/r/.git/objects/<hex2>"),
            ("/r/.git/objects/da/pack", "/r/.git/objects/<hex2>/pack"),
        ] {
            assert_eq!(learned("delete", path, false), expected);
        }
    }

    #[test]
    fn a_folder_that_was_just_made_loses_its_random_part_in_every_path_through_it() {
        let check = |action: &str, object: &str, folders_made: u64, expected: &str| {
            let traits = Traits { folders_made, ..Traits::default() };
            let learned = template(&observation(behaviour(action, object), traits));
            assert_eq!(learned.object.to_string(), expected);
        };
        for (folder, expected) in [
            ("job.TIjeIp", "job.<tmp6>"),
            ("tmp_objdir-incoming-NO99Wd", "tmp_objdir-incoming-<tmp6>"),
            (".tmpDUpmTr.temp-archive", ".tmp<tmp6>.temp-archive"),
            ("targetuBKAqK", "target<tmp6>"),
            ("bravo-0cvu3ty7ktl33", "bravo-<tmp>"),
            ("s-hofrfdx7bb-12kl0w1-dm27qp4y1ovlxqwva4k1chaha", "s-<tmp>-<tmp>-<tmp>"),
            ("release", "release"),
            ("version2", "version2"),
            ("MyProject", "MyProject"),
            ("x86_64", "x86_<num>"),
        ] {
            check("write", &format!("/srv/ci/{folder}/main.o"), 0b100, &format!("/srv/ci/{expected}/main.o"));
            check("delete", &format!("/srv/ci/{folder}"), 0b100, &format!("/srv/ci/{expected}"));
        }
        check("write", "/srv/ci/job.TIjeIp/x", 0, "/srv/ci/job.TIjeIp/x");
        check("write", "/tmp/pip-build-tracker-dq75jsmv", 0b10, "/tmp/pip-build-tracker-<tmp8>");
        check("write", "/tmp/rustdoctestWnCnKA/x", 0b10, "/tmp/rustdoctest<tmp6>/x");
        check("exec", "/srv/ci/job.TIjeIp/x", 0b100, "/srv/ci/job.TIjeIp/x");
        check("rename", "/srv/targetuBKAqK -> /srv/target", 0b10, "/srv/target<tmp6> -> /srv/target");
        check("write", "/d/green-8ffbb7e4bd79b8c7.tmp37d09c9", 0, "/d/green-<hex>.<tmp>");
    }

    #[test]
    fn what_one_made_up_name_shows_allows_no_word_in_its_place() {
        let check = |object: &str, folders_made: u64, ephemeral: bool, word: &str| {
            let traits = Traits { folders_made, ephemeral, ..Traits::default() };
            let learned = template(&observation(behaviour("write", object), traits)).object.to_string();
            let matcher = PathMatcher::new(&crate::PathText::parse(&learned).unwrap());
            assert!(matcher.matches(object) && !matcher.matches(word), "{learned}: {word}");
        };
        check("/srv/www/a1b2c3/x.php", 0b100, false, "/srv/www/upload/x.php");
        check("/srv/www/a1b2c3.php", 0, true, "/srv/www/config.php");
        check("/home/u/.a1b2c3", 0, true, "/home/u/.bashrc");
        check("/srv/www/web1data/x.php", 0b100, false, "/srv/www/websites/x.php");
        check("/srv/www/0cvu3ty7ktl33/x.php", 0b100, false, "/srv/www/wp_content/x.php");
        check("/srv/www/0cvu3ty7ktl33/x.php", 0b100, false, "/srv/www/Uploads/x.php");
    }

    #[test]
    fn an_exclusively_created_name_loses_its_random_part() {
        for (path, expected) in [
            ("/tmp/ccA1b2C3.o", "/tmp/cc<tmp6>.o"),
            ("/r/.git/objects/da/tmp_obj_wUeCas", "/r/.git/objects/<hex2>/tmp_obj_<tmp6>"),
            ("/tmp/tmp.AbCdEfGhIj", "/tmp/tmp.<tmp10>"),
            ("/tmp/tmpab_cd3xy", "/tmp/tmp<tmp8>"),
            ("/tmp/XAbCd12Ef", "/tmp/<tmp>"),
            ("/tmp/bjckvcsv", "/tmp/<tmp8>"),
            ("/var/tmp/_pg3ex55", "/var/tmp/<tmp8>"),
            ("/tmp/aB3_dE5gH7", "/tmp/<tmp10>"),
            ("/tmp/foo.abcdef", "/tmp/foo.<tmp6>"),
            ("/tmp/foo.Abcdef", "/tmp/foo.<tmp6>"),
            ("/srv/x/.file.txt.a1b2c3", "/srv/x/.file.txt.<tmp6>"),
            ("/srv/x/.tmpwUeCas", "/srv/x/.tmp<tmp6>"),
            ("/srv/bjckvcsv", "/srv/bjckvcsv"),
            ("/srv/foo.abcdef", "/srv/foo.abcdef"),
            ("/srv/report2024.pdf", "/srv/report2024.pdf"),
            ("/srv/userId.txt", "/srv/userId.txt"),
            ("/tmp/foo.lock", "/tmp/foo.lock"),
            ("/tmp/.abcdef", "/tmp/.abcdef"),
            ("/r/.git/index.lock", "/r/.git/index.lock"),
            ("/etc/cron.d/backup", "/etc/cron.d/backup"),
        ] {
            assert_eq!(learned("write", path, true), expected);
        }
        assert_eq!(learned("rename", "/d/tmpAb12Cd -> /d/final", true), "/d/tmp<tmp6> -> /d/final");
    }

    proptest::proptest! {
        #[test]
        fn a_temporary_name_stands_for_names_of_its_length_only(
            one in "(/tmp|/srv)/([a-z]{0,3}[._-]?)[a-zA-Z0-9_]{6,10}(\\.[a-z]{1,2})?",
            other in "(/tmp|/srv)/([a-z]{0,3}[._-]?)[a-zA-Z0-9_]{6,10}(\\.[a-z]{1,2})?",
        ) {
            let text = learned("write", &one, true);
            if text.contains("<tmp6>") || text.contains("<tmp8>") || text.contains("<tmp10>") {
                let is_held = PathMatcher::new(&crate::PathText::parse(&text).unwrap()).matches(&other);
                proptest::prop_assert!(!is_held || (one.len() == other.len() && one[..5] == other[..5]), "{} {}", text, other);
            }
        }

        #[test]
        fn what_is_executed_and_reached_is_named_in_full(made in crate::testing::observations()) {
            for one in &made {
                let made = template(one);
                if !matches!(made.action, crate::Action::Write | crate::Action::Delete | crate::Action::Rename) {
                    proptest::prop_assert_eq!(&made, &one.behaviour);
                }
            }
        }

        #[test]
        fn a_template_holds_what_it_was_made_of(path in "(/tmp|/objects)?(/[a-fA-F0-9tmp_.<*\\\\ -]{1,40}){1,4}", ephemeral: bool) {
            let clean: String = path.split('/').skip(1)
                .map(|name| format!("/n{}", crate::text::escape(name.as_bytes()))).collect();
            let clean = clean.replace("/n", "/");
            let mut made = observation(behaviour("write", "/x"), Traits { ephemeral, ..Traits::default() });
            made.behaviour.object = Object::path(&clean);
            let Object::Path(literal) = &made.behaviour.object else { unreachable!() };
            let Object::Path(path) = template(&made).object else { unreachable!() };
            proptest::prop_assert!(PathMatcher::new(&path).matches(literal.as_str()), "{} {}", path, literal);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_executed_or_reached_is_learned_as_it_is(made in observations()) {
            for one in made {
                let learned = template(&one);
                let varies = matches!(one.behaviour.action, Action::Write | Action::Delete | Action::Rename);
                proptest::prop_assert!(varies || learned == one.behaviour, "{}", learned);
            }
        }

        #[test]
        fn a_template_holds_its_own_name_and_no_other_word(
            path in any_path(),
            shaped in "(/[a-z]{1,5}([0-9]{1,9}|-[0-9a-f]{8,40}|\\.20[0-2][0-9]-0[1-9]-1[0-9])?){1,4}",
            // Beyond the letters of hexadecimal digits.
            word in "[a-z]{0,9}[g-z][a-z]{0,9}",
            at in 0..4_usize,
        ) {
            for path in [path, shaped] {
                let made = Behaviour { object: Object::path(&path), ..behaviour("write", "/x") };
                let written = observation(made, Traits::default());
                let Object::Path(learned) = template(&written).object else { panic!("a path") };
                let matcher = PathMatcher::new(&learned);
                let Object::Path(literal) = &written.behaviour.object else { panic!("a path") };
                proptest::prop_assert!(!literal.is_literal() || matcher.matches(literal.as_str()), "{}", learned.as_str());
                let mut names: Vec<&str> = path.split('/').skip(1).collect();
                let at = at % names.len();
                if names[at] != word && !path.starts_with("/tmp/") {
                    names[at] = &word;
                    let other = format!("/{}", names.join("/"));
                    proptest::prop_assert!(!matcher.matches(&other), "{} holds {}", learned.as_str(), other);
                }
            }
        }
    }
}
