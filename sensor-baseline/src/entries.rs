//! The entries of one (workload, subject, disposition, action), made ready for matching. Not the order in which
//! dispositions are asked (see `judge`). May call: `matcher`, `path_tree`, `pattern`.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::matcher::PathMatcher;
use crate::object::{Endpoint, Object, PathText, Protocol};
use crate::path_tree::PathTree;
use crate::pattern::{Network, Pattern, Ports};

/// A set of patterns with an exact index for those that stand for one object.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntrySet {
    patterns: BTreeSet<Pattern>,
    literal_paths: HashSet<Box<str>>,
    /// New names by old name.
    literal_renames: HashMap<Box<str>, HashSet<Box<str>>>,
    path_templates: PathTree,
    rename_templates: Vec<(PathMatcher, PathMatcher)>,
    /// Patterns that hold more than one endpoint.
    endpoint_ranges: Vec<Pattern>,
}

impl PartialEq for EntrySet {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl EntrySet {
    /// Adds a pattern; false when it is there already.
    pub(crate) fn insert(&mut self, pattern: Pattern) -> bool {
        if self.patterns.contains(&pattern) {
            return false;
        }
        match &pattern {
            Pattern::Path(path) if path.is_literal() => {
                self.literal_paths.insert(path.as_str().into());
            }
            Pattern::Path(path) => self.path_templates.insert(path),
            Pattern::Rename { from, to } if from.is_literal() && to.is_literal() => {
                self.literal_renames.entry(from.as_str().into()).or_default().insert(to.as_str().into());
            }
            Pattern::Rename { from, to } => {
                self.rename_templates.push((PathMatcher::new(from), PathMatcher::new(to)));
            }
            Pattern::Connect { .. } | Pattern::Listen { .. } if pattern.is_one_endpoint() => {}
            Pattern::Connect { .. } | Pattern::Listen { .. } => self.endpoint_ranges.push(pattern.clone()),
        }
        self.patterns.insert(pattern)
    }

    /// Takes a pattern out; false when it was not there. Rebuilds the index, so it is for editing, not for judging.
    pub(crate) fn remove(&mut self, pattern: &Pattern) -> bool {
        if !self.patterns.remove(pattern) {
            return false;
        }
        let mut rebuilt = Self::default();
        for pattern in std::mem::take(&mut self.patterns) {
            rebuilt.insert(pattern);
        }
        *self = rebuilt;
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.patterns.len()
    }

    pub(crate) fn contains(&self, pattern: &Pattern) -> bool {
        self.patterns.contains(pattern)
    }

    /// In the order of the text form.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.iter()
    }

    /// At most `count` patterns next to this one in the order of the text form, half of them on either side.
    pub(crate) fn around(&self, pattern: &Pattern, count: usize) -> impl Iterator<Item = &Pattern> {
        let before = self.patterns.range(..pattern).rev().take(count / 2);
        before.chain(self.patterns.range(pattern..).take(count / 2))
    }

    /// The patterns that hold the object. Walks them all, so it is for explaining, not for judging.
    pub(crate) fn holding<'a>(&'a self, object: &'a Object) -> impl Iterator<Item = &'a Pattern> {
        self.patterns.iter().filter(move |pattern| match (pattern, object) {
            (Pattern::Path(one), Object::Path(path)) if one.is_literal() => one == path,
            (Pattern::Rename { from: old, to: new }, Object::Rename { from, to })
                if old.is_literal() && new.is_literal() =>
            {
                old == from && new == to
            }
            _ => {
                let mut alone = Self::default();
                alone.insert((*pattern).clone());
                alone.holds(object)
            }
        })
    }

    /// Whether some pattern holds the object. Does not allocate for an object that is one name, as observed ones are.
    pub(crate) fn holds(&self, object: &Object) -> bool {
        match object {
            Object::Path(path) => self.holds_path(path),
            Object::Rename { from, to } => self.holds_rename(from, to),
            Object::Endpoint(endpoint) => self.holds_endpoint(endpoint),
        }
    }

    fn holds_path(&self, path: &PathText) -> bool {
        self.literal_paths.contains(path.as_str())
            || self.path_templates.holds(path.as_str())
            || (!path.is_literal() && self.patterns.contains(&Pattern::Path(path.clone())))
    }

    fn holds_rename(&self, from: &PathText, to: &PathText) -> bool {
        let (old, new) = (from.as_str(), to.as_str());
        let is_literal = from.is_literal() && to.is_literal();
        self.literal_renames.get(old).is_some_and(|names| names.contains(new))
            || self.rename_templates.iter().any(|(from, to)| from.matches(old) && to.matches(new))
            || (!is_literal
                && self.patterns.contains(&Pattern::Rename { from: from.clone(), to: to.clone() }))
    }

    fn holds_endpoint(&self, endpoint: &Endpoint) -> bool {
        let ports = Ports::One(endpoint.port);
        let (protocol, network) = (endpoint.protocol, Network::single(endpoint.address));
        let peer = Pattern::Connect { protocol, network, ports };
        let bound = Pattern::Listen { address: Some(endpoint.address.to_canonical()), ports };
        // A set is of one action, so at most one of the two can be in it.
        self.patterns.contains(&peer)
            || (protocol == Protocol::Tcp && self.patterns.contains(&bound))
            || self.endpoint_ranges.iter().any(|range| range.holds_endpoint(endpoint))
    }
}
