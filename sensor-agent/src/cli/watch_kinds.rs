//! Which events `watch` is asked for, by the names of kinds and families. Not what is done with them. It may call the
//! event crate and `kernel` (the set of kinds).

use crate::kernel::KindSet;
use sensor_event::Kind;

/// One word of `--kind`: a kind or a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KindWord(Vec<Kind>);

/// What is shown, and what that takes to be captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    shown: Vec<Kind>,
    reads: bool,
}

impl Selection {
    /// The default without words.
    pub(super) fn new(words: &[KindWord], reads: bool) -> Self {
        let mut shown: Vec<Kind> = match words {
            [] => Kind::ALL.into_iter().filter(|kind| !NOT_BY_DEFAULT.contains(kind)).collect(),
            words => words.iter().flat_map(|word| word.0.iter().copied()).collect(),
        };
        if reads {
            shown.push(Kind::FILE_OPEN);
        }
        if shown.contains(&Kind::CONNECT) || shown.contains(&Kind::CONNECT_RESULT) {
            // They are told as one.
            shown.extend([Kind::CONNECT, Kind::CONNECT_RESULT]);
        }
        Self { shown, reads }
    }

    /// Whether an event of this kind is shown.
    pub(super) fn shows(&self, kind: Kind) -> bool {
        self.shown.contains(&kind)
    }

    /// What is shown, and what it takes to say who did it.
    pub(super) fn captured(&self) -> KindSet {
        let needed = [Kind::PROCESS, Kind::CGROUP, Kind::CREDS, Kind::NAMESPACE];
        let set = self.shown.iter().chain(&needed).fold(KindSet::PROCESS, |set, kind| set.with(*kind));
        if self.reads { set.with_reads() } else { set }
    }
}

/// Reads one word of `--kind`.
pub(super) fn parse(word: &str) -> Result<KindWord, String> {
    if let Some((_, kinds)) = FAMILIES.iter().find(|(name, _)| *name == word) {
        return Ok(KindWord(kinds.to_vec()));
    }
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == word) {
        return Ok(KindWord(vec![kind]));
    }
    let families = FAMILIES.map(|(name, _)| name).join(", ");
    let kinds = Kind::ALL.map(Kind::name).join(", ");
    Err(format!("neither a family ({families}) nor a kind ({kinds})"))
}

const FAMILIES: [(&str, &[Kind]); 4] = [
    ("process", &[Kind::EXEC, Kind::FORK, Kind::EXIT, Kind::PROCESS, Kind::CGROUP]),
    ("network", &[Kind::CONNECT, Kind::CONNECT_RESULT, Kind::LISTEN, Kind::ACCEPT, Kind::SEND, Kind::SOCKET]),
    (
        "file",
        &[
            Kind::FILE_OPEN,
            Kind::FILE_UNLINK,
            Kind::FILE_RENAME,
            Kind::FILE_LINK,
            Kind::FILE_SYMLINK,
            Kind::FILE_MKDIR,
            Kind::FILE_CHMOD,
            Kind::FILE_CHOWN,
            Kind::FILE_TRUNCATE,
            Kind::FILE_SETXATTR,
            Kind::MOUNT,
        ],
    ),
    (
        "privilege",
        &[
            Kind::CREDS,
            Kind::PTRACE,
            Kind::MODULE_LOAD,
            Kind::BPF_LOAD,
            Kind::NAMESPACE,
            Kind::MEMFD,
            Kind::VM_WRITE,
        ],
    ),
];

/// Shown only when asked for by name: too many, or no news.
const NOT_BY_DEFAULT: [Kind; 4] = [Kind::FORK, Kind::PROCESS, Kind::CGROUP, Kind::EXEC_MAP];

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(words: &[&str], reads: bool) -> Selection {
        let words: Vec<KindWord> = words.iter().map(|word| parse(word).unwrap()).collect();
        Selection::new(&words, reads)
    }

    #[test]
    fn every_kind_has_a_word_and_but_for_mappings_a_family() {
        for kind in Kind::ALL {
            assert!(selection(&[kind.name()], false).shows(kind), "{}", kind.name());
            let is_in_family = FAMILIES.iter().any(|(_, kinds)| kinds.contains(&kind));
            assert_eq!(is_in_family, kind != Kind::EXEC_MAP, "{}", kind.name());
        }
        let message = parse("files").unwrap_err();
        assert!(
            message.contains("process, network, file, privilege") && message.contains("vm_write"),
            "{message}"
        );
    }

    #[test]
    fn what_is_shown_is_captured() {
        let some = selection(&["send", "privilege"], false);
        assert!(some.shows(Kind::PTRACE) && some.captured().contains(Kind::PTRACE));
        assert!(!some.shows(Kind::EXEC) && some.captured().contains(Kind::EXEC));
        assert!(!some.captured().contains(Kind::FILE_OPEN));
        assert!(selection(&["connect"], false).captured().contains(Kind::CONNECT_RESULT));
        assert!(!selection(&[], false).shows(Kind::FORK));
    }

    #[test]
    fn reads_are_opens_on_request() {
        assert!(!selection(&["file"], false).captured().has_reads());
        let reads = selection(&["exec"], true);
        assert!(reads.captured().has_reads() && reads.shows(Kind::FILE_OPEN));
    }
}
