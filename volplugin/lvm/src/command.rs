//! One command of LVM, checked so that both ways of running it take it as it is.

use std::fmt;

/// The most words of a command. liblvm2cmd splits its line into 64 and counts one more than it
/// uses (`MAX_ARGS` in lvm2's tools.h).
const MOST_WORDS: usize = 63;

/// The longest word in bytes; longer than any tag may be (1024).
const LONGEST_WORD: usize = 2048;

/// Why a command cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// liblvm2cmd takes no more.
    #[error("an LVM command of {0} words: at most {MOST_WORDS} are possible")]
    TooManyWords(usize),
    /// A word that liblvm2cmd would split, unquote, drop as a comment or cut.
    #[error("{0:?} cannot be a word of an LVM command")]
    Word(String),
}

/// A command of LVM: its name and arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a command does nothing until it is run"]
pub struct Command(Vec<String>);

impl Command {
    /// The command of this name, without arguments.
    pub fn new(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.0.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.extend(args.into_iter().map(Into::into));
        self
    }

    /// Its words, if it can be run.
    ///
    /// The library splits a line at white space, takes quotes at the beginning of a word only,
    /// knows no escapes, and takes a word that begins with `#` for the beginning of a comment.
    pub fn words(&self) -> Result<&[String], Malformed> {
        if self.0.len() > MOST_WORDS {
            return Err(Malformed::TooManyWords(self.0.len()));
        }
        let plain = |word: &String| {
            let graphic = word.bytes().all(|byte| byte.is_ascii_graphic());
            let quotes = word.contains(['"', '\'', '\\', '`']);
            !word.is_empty()
                && word.len() <= LONGEST_WORD
                && graphic
                && !quotes
                && !word.starts_with('#')
        };
        match self.0.iter().find(|word| !plain(word)) {
            None => Ok(&self.0),
            Some(word) => Err(Malformed::Word(word.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_the_library_would_change_are_refused() {
        for bad in ["", " ", "a b", "#x", "\"a", "it's", "a\\b", "é", "a\nb", &"x".repeat(3000)] {
            let command = Command::new("lvs").arg(bad);
            assert!(matches!(command.words(), Err(Malformed::Word(_))), "{bad:?}");
        }
        for good in ["vg/lv", "--addtag", "a#b", "k=v:w!&+-", "lv_name=~^x[0-9]$"] {
            assert!(Command::new("lvs").arg(good).words().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn sixty_three_words_are_the_most() {
        let command = |arguments| Command::new("lvs").args(vec!["-v"; arguments]);
        assert_eq!(command(62).words().map(<[String]>::len), Ok(63));
        assert_eq!(command(63).words(), Err(Malformed::TooManyWords(64)));
    }
}
