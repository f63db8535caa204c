//! Path templates as a tree of their names, so that what a path costs does not grow with how many there are. Not one
//! template's own matching (see `matcher`). May call: `matcher`, `object`.

use crate::matcher::{Name, names_of};
use crate::object::PathText;

/// Templates that begin with the same names share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct PathTree {
    /// By name, sorted.
    literals: Vec<(Box<str>, Self)>,
    /// Names that vary. One path may go on below several.
    patterns: Vec<(Name, Self)>,
    /// A template ends here.
    is_end: bool,
    /// A template ends here with `/**`: one more name at least.
    is_any_below: bool,
}

impl PathTree {
    pub(crate) fn insert(&mut self, template: &PathText) {
        let (names, is_any_below) = names_of(template);
        let mut node = self;
        for name in names {
            node = node.below(name);
        }
        node.is_end |= !is_any_below;
        node.is_any_below |= is_any_below;
    }

    fn below(&mut self, name: Name) -> &mut Self {
        let Some(literal) = name.literal() else {
            let at = self.patterns.iter().position(|(known, _)| *known == name);
            let at = at.unwrap_or(self.patterns.len());
            if at == self.patterns.len() {
                self.patterns.push((name, Self::default()));
            }
            return &mut self.patterns[at].1;
        };
        let at = self.literals.binary_search_by(|(known, _)| (**known).cmp(literal)).unwrap_or_else(|at| {
            self.literals.insert(at, (literal.into(), Self::default()));
            at
        });
        &mut self.literals[at].1
    }

    /// Whether a template holds the path, whose text is literal.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let (_, below) = path.split_once('/').unwrap_or(("", path));
        self.holds_below(Some(below))
    }

    /// `rest` are the names that are left; `None` when there are no more.
    fn holds_below(&self, rest: Option<&str>) -> bool {
        let Some(rest) = rest else { return self.is_end };
        let (name, rest) = rest.split_once('/').map_or((rest, None), |(name, rest)| (name, Some(rest)));
        if self.is_any_below && !name.is_empty() {
            return true;
        }
        let literal = self.literals.binary_search_by(|(known, _)| (**known).cmp(name));
        literal.is_ok_and(|at| self.literals[at].1.holds_below(rest))
            || self.patterns.iter().any(|(pattern, below)| pattern.matches(name) && below.holds_below(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::PathTree;
    use crate::matcher::PathMatcher;
    use crate::object::PathText;
    use proptest::prelude::*;

    fn tree(templates: &[PathText]) -> PathTree {
        let mut tree = PathTree::default();
        templates.iter().for_each(|template| tree.insert(template));
        tree
    }

    #[test]
    fn a_path_goes_on_below_every_name_that_fits() {
        let texts = ["/srv/*/a", "/srv/b*/c", "/srv/bx/d", "/opt/**", "/"];
        let tree = tree(&texts.map(|text| PathText::parse(text).unwrap()));
        for (path, expected) in [
            ("/srv/bx/a", true),
            ("/srv/bx/c", true),
            ("/srv/bx/d", true),
            ("/srv/cx/c", false),
            ("/srv/bx", false),
            ("/srv/bx/a/a", false),
            ("/opt/a/b", true),
            ("/opt", false),
            ("/opt/", false),
            ("/", true),
            ("/s", false),
        ] {
            assert_eq!(tree.holds(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_one_of_its_templates_holds(
            templates in proptest::collection::vec("(/(a|b|ab|[*]|a[*]|<num>|tmp|<tmp6>)){1,4}(/[*][*])?", 1..12),
            paths in proptest::collection::vec("(/(a|b|ab|12|tmp|x1Y2z3|abcdef|)){1,5}", 1..12),
        ) {
            let templates: Vec<_> = templates.iter().map(|text| PathText::parse(text).unwrap()).collect();
            let tree = tree(&templates);
            for path in paths {
                let one_by_one = templates.iter().any(|template| PathMatcher::new(template).matches(&path));
                prop_assert_eq!(tree.holds(&path), one_by_one, "{}", path);
            }
        }
    }
}
