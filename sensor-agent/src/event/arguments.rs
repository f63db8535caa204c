//! A program's arguments in one piece of memory. Not their meaning. It may call nothing.
//!
//! Who executes a program chooses how many arguments it has: eight thousand empty ones fit into a record. One string
//! for each would take twenty times the record's bytes, for every process; so they stay together until they are told.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Arguments, escaped. A copy shares them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Arguments(
    /// Each with a NUL behind it: escaped text has none.
    Arc<str>,
);

impl Arguments {
    /// Stands for arguments that were known and are not any more.
    #[must_use]
    pub fn forgotten() -> Self {
        Self::from_iter([FORGOTTEN])
    }

    /// Each.
    pub fn iter(&self) -> std::str::SplitTerminator<'_, char> {
        self.0.split_terminator(END)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.bytes().filter(|byte| char::from(*byte) == END).count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// One after the other with a space in between.
    #[must_use]
    pub fn joined(&self) -> String {
        let text = self.0.strip_suffix(END).unwrap_or(&self.0);
        text.replace(END, " ")
    }
}

impl<S: AsRef<str>> FromIterator<S> for Arguments {
    fn from_iter<I: IntoIterator<Item = S>>(arguments: I) -> Self {
        let mut text = String::new();
        for argument in arguments {
            text.push_str(argument.as_ref());
            text.push(END);
        }
        Self(Arc::from(text))
    }
}

impl<'a> IntoIterator for &'a Arguments {
    type Item = &'a str;
    type IntoIter = std::str::SplitTerminator<'a, char>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Arguments {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self).finish()
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Texts)
    }
}

/// Reads a list of texts without making a string of each.
struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = Arguments;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut text = String::new();
        while let Some(argument) = list.next_element::<String>()? {
            text.push_str(&argument);
            text.push(END);
        }
        Ok(Arguments(Arc::from(text)))
    }
}

/// Behind each argument.
const END: char = '\0';
/// Not what `escape` could make of any argument: a backslash stands before `x` only.
const FORGOTTEN: &str = "\\forgotten";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_out_as_they_went_in() {
        let check = |arguments: &[&str], joined: &str| {
            let held = Arguments::from_iter(arguments);
            assert_eq!(held.iter().collect::<Vec<_>>(), arguments);
            assert_eq!((held.len(), held.is_empty()), (arguments.len(), arguments.is_empty()));
            assert_eq!(held.joined(), joined);
            let json = serde_json::to_string(&held).unwrap();
            assert_eq!(json, serde_json::to_string(arguments).unwrap());
            assert_eq!(serde_json::from_str::<Arguments>(&json).unwrap(), held);
        };
        check(&[], "");
        check(&[""], "");
        check(&["", ""], " ");
        check(&["sh", "", "-c", "é"], "sh  -c é");
    }

    #[test]
    fn many_empty_arguments_take_a_byte_each() {
        let many = Arguments::from_iter(vec![""; 8_190]);
        assert_eq!((many.len(), many.bytes()), (8_190, 8_190));
        assert!(Arc::ptr_eq(&many.0, &many.clone().0), "a copy shares them");
    }
}
