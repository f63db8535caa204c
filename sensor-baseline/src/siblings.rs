//! When names that stand beside each other show that they are made up: the third stage of templates, which one name alone
//! cannot show. Not the shapes that one name shows (see `template`). May call: `baseline`, `matcher`, `pattern`,
//! `template`.
//!
//! Two names are siblings when they stand in the same directory, for the same subject and action, and their parts between
//! `-`, `.` and classes are as long as each other's. Where [`SIBLINGS_MIN`] of them differ in a part, and most of what
//! stands there looks random, that part becomes a class. What guards against too much:
//!
//! - a class is of the part's own shape, never a bare wildcard, and words of one case never match it;
//! - a name that the template does not match stays as it is;
//! - only names that are written, deleted or renamed: what is executed is always named in full.

use std::collections::{BTreeMap, BTreeSet};

use crate::baseline::Entry;
use crate::matcher::{Class, TMP_CHARS_MIN, is_tied, run, untied_tmp6_len};
use crate::model::{Action, Subject, Workload};
use crate::object::PathText;
use crate::pattern::Pattern;
use crate::template::{has_number_inside, mixes_cases};
use crate::text::unit_len;

/// Distinct siblings that make a class.
const SIBLINGS_MIN: usize = 5;
/// Of the parts that differ at least so many in a hundred look random.
const RANDOM_PERCENT_MIN: usize = 80;

/// Which of an entry's paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Path,
    From,
    To,
}

/// Whose paths they are, and what is done to them.
type Group<'a> = (&'a Workload, &'a Subject, Action, Side);

/// In which directory siblings stand, and of which shape they are.
type Place = (String, String);

/// The templates that replace siblings.
#[derive(Debug, Default)]
pub(crate) struct Siblings(BTreeMap<(Workload, Subject, Action, Side), BTreeMap<Place, Template>>);

impl Siblings {
    /// What these entries show.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut groups: BTreeMap<Group<'a>, BTreeSet<&'a str>> = BTreeMap::new();
        for entry in entries {
            for (side, path) in paths(entry) {
                let group = (&entry.workload, &entry.subject, entry.action, side);
                groups.entry(group).or_default().insert(path.as_str());
            }
        }
        let shown = groups.into_iter().filter(|(_, paths)| paths.len() >= SIBLINGS_MIN);
        let templates = shown.map(|((workload, subject, action, side), paths)| {
            ((workload.clone(), subject.clone(), action, side), templates(&paths))
        });
        Self(templates.filter(|(_, templates)| !templates.is_empty()).collect())
    }

    /// The entry with templates in place of siblings.
    pub(crate) fn settle(&self, entry: Entry) -> Entry {
        let of = |side, path: &PathText| {
            let group = (entry.workload.clone(), entry.subject.clone(), entry.action, side);
            self.0.get(&group).map_or_else(|| path.clone(), |templates| settled(templates, path))
        };
        let pattern = match &entry.pattern {
            Pattern::Path(path) => Pattern::Path(of(Side::Path, path)),
            Pattern::Rename { from, to } => {
                Pattern::Rename { from: of(Side::From, from), to: of(Side::To, to) }
            }
            other => other.clone(),
        };
        Entry { pattern, ..entry }
    }
}

/// The paths of an entry in which names may vary.
fn paths(entry: &Entry) -> impl Iterator<Item = (Side, &PathText)> {
    let (first, second) = match &entry.pattern {
        Pattern::Path(path) if matches!(entry.action, Action::Write | Action::Delete) => {
            (Some((Side::Path, path)), None)
        }
        Pattern::Rename { from, to } => (Some((Side::From, from)), Some((Side::To, to))),
        _ => (None, None),
    };
    first.into_iter().chain(second)
}

/// What one group's paths show: outer directories first, so that what lies below siblings is put together.
fn templates(paths: &BTreeSet<&str>) -> BTreeMap<Place, Template> {
    let mut templates = BTreeMap::new();
    let mut walks: Vec<_> = paths.iter().map(|path| (String::new(), path.split('/').skip(1))).collect();
    while !walks.is_empty() {
        let mut names: BTreeMap<Place, BTreeSet<&str>> = BTreeMap::new();
        let mut next = Vec::with_capacity(walks.len());
        for (directory, mut rest) in walks {
            if let Some(name) = rest.next() {
                names.entry((directory.clone(), shape(name))).or_default().insert(name);
                next.push((directory, name, rest));
            }
        }
        let shown = names.into_iter().filter(|(_, names)| names.len() >= SIBLINGS_MIN);
        templates.extend(shown.filter_map(|(place, names)| {
            let template = Template::of(&place.0, &names)?;
            Some((place, template))
        }));
        let below = |(directory, name, rest)| (below(&templates, directory, name), rest);
        walks = next.into_iter().map(below).collect();
    }
    templates
}

fn settled(templates: &BTreeMap<Place, Template>, path: &PathText) -> PathText {
    let names = path.as_str().split('/').skip(1);
    let settled = names.fold(String::new(), |directory, name| below(templates, directory, name));
    if path.as_str().starts_with('/') { PathText::from_canonical(settled) } else { path.clone() }
}

/// A directory, as it is settled, with a name below it.
fn below(templates: &BTreeMap<Place, Template>, directory: String, name: &str) -> String {
    let place = (directory, shape(name));
    let template = templates.get(&place).filter(|template| template.holds(name));
    let (mut path, _) = place;
    path.push('/');
    match template {
        Some(template) => template.0.iter().for_each(|part| part.push_onto(&mut path)),
        None => path.push_str(name),
    }
    path
}

/// What siblings are called.
#[derive(Debug)]
struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Same(String),
    Varies {
        prefix: String,
        class: Class,
        /// Whether the matcher takes six characters for made up that are a word.
        is_tied: bool,
    },
}

impl Template {
    /// The template of names of one shape, when those parts in which they differ look random.
    fn of(directory: &str, names: &BTreeSet<&str>) -> Option<Self> {
        let above: Vec<&str> = directory.split('/').skip(1).collect();
        let names: Vec<Vec<&str>> = names.iter().map(|name| parts(name)).collect();
        let first = names.first()?;
        let is_class =
            |at: Option<usize>| at.and_then(|at| first.get(at)).is_some_and(|part| part.starts_with('<'));
        let part = |(at, part): (usize, &&str)| {
            let words: BTreeSet<&str> = names.iter().map(|parts| parts[at]).collect();
            if words.len() == 1 {
                return Some(Part::Same((*part).to_owned()));
            }
            // A class takes as much as it can: nothing of a kind may stand beside it.
            let stands_alone = !is_class(at.checked_sub(1)) && !is_class(Some(at + 1));
            let (prefix, class) = varying(&words).filter(|_| stands_alone)?;
            let is_tied = is_tied(&above, &(first[..at].concat() + &prefix));
            Some(Part::Varies { prefix, class, is_tied })
        };
        first.iter().enumerate().map(part).collect::<Option<_>>().map(Self)
    }

    /// Whether it holds a name of the shape it was made of.
    fn holds(&self, name: &str) -> bool {
        let is_of = |(part, word): (&Part, &str)| match part {
            Part::Same(same) => same == word,
            Part::Varies { prefix, class, is_tied } => {
                let match_len = |rest: &str| match class {
                    Class::Tmp6 if !is_tied => untied_tmp6_len(rest),
                    class => class.match_len(rest),
                };
                let rest = word.strip_prefix(prefix.as_str()).filter(|_| !word.starts_with('<'));
                rest.is_some_and(|rest| match_len(rest) == Some(rest.len()))
            }
        };
        self.0.iter().zip(parts(name)).all(is_of)
    }
}

impl Part {
    fn push_onto(&self, path: &mut String) {
        match self {
            Self::Same(same) => path.push_str(same),
            Self::Varies { prefix, class, .. } => {
                path.push_str(prefix);
                path.push_str(class.name());
            }
        }
    }
}

/// What words of one length are of: six made-up characters behind letters that they have in common, or made up as a
/// whole.
fn varying(words: &BTreeSet<&str>) -> Option<(String, Class)> {
    let first = *words.first()?;
    let (prefix, _) = first.split_at_checked(first.len().checked_sub(TMP_CHARS_MIN)?)?;
    let are_mostly = |is_so: &dyn Fn(&str) -> bool| {
        let count = words.iter().filter(|word| is_so(word)).count();
        words.len() >= SIBLINGS_MIN && count * 100 >= words.len() * RANDOM_PERCENT_MIN
    };
    let is_plain = prefix.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if is_plain && words.iter().all(|word| word.starts_with(prefix)) {
        let is_made_up = |word: &str| {
            let rest = &word[prefix.len()..];
            has_number_inside(rest) || mixes_cases(rest)
        };
        return are_mostly(&is_made_up).then(|| (prefix.to_owned(), Class::Tmp6));
    }
    // Words of a language are never put together, in whatever case they are.
    are_mostly(&has_number_inside).then_some((String::new(), Class::Tmp))
}

/// A name's parts: words, and what stands between them, classes and escapes in one piece.
fn parts(name: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let word = run(rest.as_bytes(), is_word_byte);
        let len = match rest.find('>').filter(|_| rest.starts_with('<')) {
            Some(end) => end + 1,
            None if word > 0 => word,
            None => unit_len(rest),
        };
        let (part, after) = rest.split_at(len);
        parts.push(part);
        rest = after;
    }
    parts
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What siblings have in common: the length of each word, and everything else as it is.
fn shape(name: &str) -> String {
    let mut shape = String::with_capacity(name.len());
    for part in parts(name) {
        if part.bytes().all(is_word_byte) {
            // No name has a slash: a length is not mistaken for text.
            shape.push('/');
            shape.push_str(&part.len().to_string());
        } else {
            shape.push_str(part);
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::Siblings;
    use crate::baseline::{Baseline, Entry};
    use crate::floor::Floor;
    use crate::judge::Verdict;
    use crate::matcher::PathMatcher;
    use crate::model::Traits;
    use crate::object::PathText;
    use crate::testing::{behaviour, observation};
    use proptest::prelude::*;

    fn settle(action: &str, objects: &[String]) -> Vec<String> {
        let entries: Vec<Entry> =
            objects.iter().map(|object| Entry::allowing(&behaviour(action, object))).collect();
        let siblings = Siblings::of(&entries);
        let mut settled: Vec<String> =
            entries.into_iter().map(|entry| siblings.settle(entry).pattern.to_string()).collect();
        settled.sort();
        settled.dedup();
        settled
    }

    fn check(action: &str, names: &[&str], object: impl Fn(&str) -> String, expected: &[&str]) {
        let objects: Vec<String> = names.iter().map(|name| object(name)).collect();
        assert_eq!(settle(action, &objects), expected);
    }

    /// As rustc makes them.
    const RANDOM: [&str; 6] = ["uhpJwg", "aB3dEf", "x9Kq2m", "Zk1PqR", "q7w8Er", "mNb4vC"];

    #[test]
    fn five_made_up_names_of_a_shape_are_a_class_and_four_are_not() {
        let folder = |name: &str| format!("/build/rustc{name}/symbols.o");
        check("write", &RANDOM, folder, &["/build/rustc<tmp6>/symbols.o"]);
        let four: Vec<String> = RANDOM[..4].iter().map(|name| folder(name)).collect();
        assert_eq!(settle("write", &four).len(), 4);
    }

    #[test]
    fn each_part_of_a_name_is_looked_at_by_itself() {
        let words = ["0gz3kd81x", "1hf92ka0z", "2kc01mz7w", "9zz8aa1bq", "7ab3kd99c"];
        check("write", &words, |word| format!("/t/s-{word}-1a2b.lock"), &["/t/s-<tmp>-1a2b.lock"]);
        check("delete", &words, |word| format!("/t/<hex>.{word}.rcgu.o"), &["/t/<hex>.<tmp>.rcgu.o"]);
        check("rename", &words, |word| format!("/t/{word} -> /t/done"), &["/t/<tmp> -> /t/done"]);
    }

    #[test]
    fn what_lies_below_siblings_is_put_together() {
        let inner = ["a1b2c3d4e5", "b2c3d4e5f6g7"];
        let mut objects = Vec::new();
        for (at, outer) in RANDOM.iter().enumerate() {
            // Below each folder alone there are too few.
            let names: Vec<String> = inner.iter().map(|name| format!("{name}{at}z")).collect();
            objects.extend(names.iter().map(|name| format!("/b/cc{outer}/{name}.o")));
        }
        assert_eq!(settle("write", &objects), ["/b/cc<tmp6>/<tmp>.o"]);
    }

    #[test]
    fn words_and_programs_are_never_put_together() {
        let words = ["tmp", "etc", "var", "usr", "opt", "srv"];
        assert_eq!(settle("write", &words.map(|word| format!("/{word}/x"))).len(), words.len());
        let files = ["report", "invoice", "summary", "listing", "backups", "archive"];
        assert_eq!(settle("write", &files.map(|file| format!("/d/{file}"))).len(), files.len());
        let camels = ["ArrayList1", "HashTables", "LinkedMaps", "TreeSetsOf", "QueueLinks", "OtherLists"];
        assert_eq!(settle("write", &camels.map(|name| format!("/d/{name}"))).len(), camels.len());
        let numbered = ["server00001", "server00002", "server00003", "server00004", "server00005"];
        assert_eq!(settle("write", &numbered.map(|name| format!("/d/{name}"))).len(), numbered.len());
        assert_eq!(settle("exec", &RANDOM.map(|name| format!("/tmp/cc{name}"))).len(), RANDOM.len());
    }

    #[test]
    fn six_made_up_characters_alone_are_no_word() {
        let mut objects: Vec<String> = RANDOM.iter().map(|name| format!("/srv/{name}.php")).collect();
        objects.push("/srv/config.php".to_owned());
        assert_eq!(settle("write", &objects), ["/srv/<tmp6>.php", "/srv/config.php"]);
        let matcher = PathMatcher::new(&PathText::parse("/srv/<tmp6>.php").unwrap());
        assert!(!matcher.matches("/srv/upload.php"));
    }

    #[test]
    fn a_name_of_another_shape_stays_and_is_not_allowed() {
        let mut objects: Vec<String> = RANDOM.iter().map(|name| format!("/b/cc{name}.o")).collect();
        objects.push("/b/ccache.conf".to_owned());
        assert_eq!(settle("write", &objects), ["/b/cc<tmp6>.o", "/b/ccache.conf"]);
        let mut baseline = Baseline::empty("web");
        let entries: Vec<Entry> =
            objects.iter().map(|object| Entry::allowing(&behaviour("write", object))).collect();
        let siblings = Siblings::of(&entries);
        entries.into_iter().for_each(|entry| {
            baseline.insert(siblings.settle(entry));
        });
        let judge = |object: &str| {
            baseline.judge(&observation(behaviour("write", object), Traits::default()), Floor::built_in())
        };
        assert_eq!(judge("/b/ccQQ11zz.o"), Verdict::Allowed);
        for other in ["/b/ccQQ11zz.c", "/b/ccQQ11z.o", "/b/ccQQ11zz1.o", "/b/malicious.o", "/b/c/ccQQ11zz.o"]
        {
            assert_eq!(judge(other), Verdict::Novel, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_was_learned_stays_allowed_and_settling_twice_changes_nothing(
            names in proptest::collection::vec("(cc|s-)?[a-zA-Z0-9_.-]{6,12}(/[a-z0-9]{6}|\\\\x0a[a-z0-9]{6})?", 0..40),
        ) {
            let objects: Vec<String> = names.iter().filter(|name| !name.starts_with('.')).map(|name| format!("/d/{name}")).collect();
            let entries: Vec<Entry> =
                objects.iter().map(|object| Entry::allowing(&behaviour("write", object))).collect();
            let siblings = Siblings::of(&entries);
            let mut baseline = Baseline::empty("web");
            for entry in &entries {
                baseline.insert(siblings.settle(entry.clone()));
            }
            for object in &objects {
                let seen = observation(behaviour("write", object), Traits::default());
                prop_assert_eq!(baseline.judge(&seen, Floor::built_in()), Verdict::Allowed);
            }
            let text = baseline.to_yaml();
            prop_assert_eq!(&Baseline::parse(&text).unwrap(), &baseline);
            prop_assert_eq!(crate::settle(&baseline), baseline);
        }
    }
}
