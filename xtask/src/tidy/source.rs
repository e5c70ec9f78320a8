//! A Rust file, told apart into code, comments and literals: just enough of a lexer for the rules.
//!
//! - [`Source::code`] has the length and the lines of the file; comments and the insides of literals are blanks.
//! - Braces are matched on that code, so a brace in a string or comment never counts.
//! - Macros are not expanded: what a rule finds is what stands in the file.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// One `fn` with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, without path.
    pub name: String,
    /// Line of the word `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
}

/// One Rust file, lexed.
#[derive(Debug)]
pub struct Source {
    kinds: Vec<Kind>,
    code: String,
    tests: Vec<Range<usize>>,
    test_modules: Vec<String>,
}

impl Source {
    /// Lexes a Rust file; whatever the text, it ends in some classification.
    pub fn of(text: &str) -> Source {
        let kinds = classify(text.as_bytes());
        let blanked = text.bytes().zip(&kinds).map(|(byte, kind)| match kind {
            Kind::Code => byte,
            _ if byte == b'\n' => byte,
            _ => b' ',
        });
        let code = String::from_utf8(blanked.collect()).expect("characters are blanked as a whole");
        let mut source = Source { kinds, code, tests: Vec::new(), test_modules: Vec::new() };
        source.find_tests();
        source
    }

    /// The file with comments and the insides of literals blanked.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Offsets at which `word` stands as a whole word of code.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !before.is_some_and(is_name) && !after.is_some_and(is_name)
        })
    }

    /// Whether the byte at `offset` lies inside a string or character literal.
    pub fn is_literal(&self, offset: usize) -> bool {
        self.kinds.get(offset) == Some(&Kind::Literal)
    }

    /// Whether `offset` lies in an item marked `#[test]` or `#[cfg(test)]`.
    pub fn is_test(&self, offset: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&offset))
    }

    /// Names of the modules declared as `#[cfg(test)] mod name;`: their files are tests.
    pub fn test_modules(&self) -> &[String] {
        &self.test_modules
    }

    /// The line of `offset`, from 1.
    pub fn line(&self, offset: usize) -> usize {
        line_of(&self.code, offset)
    }

    /// Every function with a body, nested ones too.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for at in self.words("fn") {
            let rest = self.code[at + 2..].trim_start();
            let name: String = rest.chars().take_while(|&c| is_name(c) || c == '$').collect();
            if name.is_empty() {
                continue; // `fn(u8)`, a type
            }
            let item = item_after(&self.code, at);
            if item.has_body {
                let line = self.line(at);
                functions.push(Function { name, line, lines: self.line(item.end - 1) - line + 1 });
            }
        }
        functions
    }

    fn find_tests(&mut self) {
        let mut from = 0;
        while let Some(found) = self.code[from..].find('#') {
            let hash = from + found;
            from = hash + 1;
            let rest = &self.code[from..];
            let inner = rest.starts_with('!');
            let open = from + usize::from(inner);
            if !self.code[open..].starts_with('[') {
                continue;
            }
            let close = closing(&self.code, open);
            from = close;
            if !means_test(&self.code[open + 1..close - 1]) {
                continue;
            }
            if inner {
                self.tests.push(0..self.code.len());
                continue;
            }
            let item = item_after(&self.code, close);
            if !item.has_body
                && let Some(name) = declared_module(&self.code[close..item.end])
            {
                self.test_modules.push(name);
            }
            self.tests.push(hash..item.end);
            from = item.end;
        }
    }
}

/// The line of `offset` in `text`, from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn means_test(attribute: &str) -> bool {
    let attribute = attribute.trim();
    let plain = attribute == "test" || attribute.ends_with("::test");
    let words = attribute.split(|c| !is_name(c));
    let configured = attribute.starts_with("cfg(")
        && words.clone().any(|word| word == "test")
        && !words.clone().any(|word| word == "not" || word == "any");
    plain || configured
}

/// `name` if `item` reads `mod name;`, with or without a visibility and further attributes.
fn declared_module(item: &str) -> Option<String> {
    let declaration = item.strip_suffix(';')?;
    let mut words = declaration.split_whitespace().rev();
    let name = words.next()?;
    (words.next()? == "mod").then(|| name.to_owned())
}

struct Item {
    has_body: bool,
    /// One past the closing brace or semicolon.
    end: usize,
}

/// The item that starts at `from`, attributes included: up to its body's closing brace, or its semicolon.
fn item_after(code: &str, from: usize) -> Item {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 => return Item { has_body: true, end: closing(code, at) },
            b';' if depth == 0 => return Item { has_body: false, end: at + 1 },
            _ => {}
        }
    }
    Item { has_body: false, end: code.len() }
}

/// One past the bracket that closes the one at `open`, or the end of the code.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// The kind of every byte. Quotes, prefixes and hashes of a literal count as code; what they enclose does not.
fn classify(text: &[u8]) -> Vec<Kind> {
    let mut kinds = vec![Kind::Code; text.len()];
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            kinds[at..end].fill(Kind::Comment);
            at = end;
        } else if rest.starts_with(b"/*") {
            let end = at + block_comment(rest);
            kinds[at..end].fill(Kind::Comment);
            at = end;
        } else if let Some((inside, length)) = literal(rest) {
            kinds[at + inside.start..at + inside.end].fill(Kind::Literal);
            at += length;
        } else if is_name_byte(rest[0]) {
            // A whole name at once, so that the `r` of `for"` is not taken for a prefix.
            at += rest.iter().position(|&byte| !is_name_byte(byte)).unwrap_or(rest.len());
        } else {
            at += 1;
        }
    }
    kinds
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn block_comment(text: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// If `text` starts with a literal in quotes: what lies between the quotes, and the length of it all.
fn literal(text: &[u8]) -> Option<(Range<usize>, usize)> {
    let prefix = text.iter().take(2).take_while(|byte| matches!(byte, b'b' | b'c' | b'r')).count();
    let raw = prefix > 0 && text[prefix - 1] == b'r';
    let rest = &text[prefix..];
    if raw {
        let hashes = rest.iter().take_while(|&&byte| byte == b'#').count();
        if rest.get(hashes) != Some(&b'"') {
            return None; // `r#type`, or a name that starts with r
        }
        let start = prefix + hashes + 1;
        let mut end = vec![b'"'];
        end.resize(1 + hashes, b'#');
        let length = text[start..].windows(end.len()).position(|window| window == end);
        return Some(match length {
            Some(length) => (start..start + length, start + length + end.len()),
            None => (start..text.len(), text.len()),
        });
    }
    match rest.first()? {
        b'"' => Some(quoted(text, prefix + 1, b'"')),
        b'\'' if is_character(rest) => Some(quoted(text, prefix + 1, b'\'')),
        _ => None,
    }
}

fn quoted(text: &[u8], start: usize, quote: u8) -> (Range<usize>, usize) {
    let mut at = start;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            byte if byte == quote => return (start..at, at + 1),
            _ => at += 1,
        }
    }
    (start..text.len(), text.len())
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_character(text: &[u8]) -> bool {
    match text.get(1) {
        Some(b'\\') => true,
        Some(&first) => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            text.get(1 + width) == Some(&b'\'')
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */\nd */ e", "a             \n     e"),
            (r#"f("x\"y", 'z', b'\'', '"')"#, r#"f("    ", ' ', b'  ', ' ')"#),
            (r##"f(r#"x"y"#, br"z\", r#type)"##, r##"f(r#"   "#, br"  ", r#type)"##),
            ("fn f<'a>(x: &'a str) -> 'é' {}", "fn f<'a>(x: &'a str) -> '  ' {}"),
            ("for\"x\"", "for\" \""),
            ("\"open // {", "\"         "),
        ];
        for (text, code) in cases {
            assert_eq!(Source::of(text).code(), code, "{text}");
        }
    }

    #[test]
    fn words_are_whole_words_of_code() {
        let source = Source::of("unsafe_code; unsafe { \"unsafe\" } // unsafe\n#[unsafe(no_mangle)]");
        assert_eq!(source.words("unsafe").collect::<Vec<_>>(), [13, 45]);
    }

    #[test]
    fn functions_have_a_name_and_a_length() {
        let text = "trait T { fn declared(&self, x: [u8; 2]); }\nfn one() {}\npub fn two<F: fn(u8)>(f: F)\nwhere\n    F: Copy,\n{\n    let _ = '}';\n}\n";
        assert_eq!(
            Source::of(text).functions(),
            [
                Function { name: "one".into(), line: 2, lines: 1 },
                Function { name: "two".into(), line: 3, lines: 6 }
            ]
        );
    }

    #[test]
    fn test_items_are_found() {
        let text = "fn a() {}\n#[test]\n#[should_panic]\nfn b() { x[1]; }\nfn c() {}\n#[cfg(test)]\nmod d { fn e() {} }\n#[cfg(not(test))]\nfn f() {}\n#[cfg(test)]\npub(crate) mod g;\n";
        let source = Source::of(text);
        for (word, test) in [("a", false), ("b", true), ("c", false), ("e", true), ("f", false)] {
            let at = source.words(word).next().unwrap();
            assert_eq!(source.is_test(at), test, "{word}");
        }
        assert_eq!(source.test_modules(), ["g"]);
        assert!(Source::of("#![cfg(test)]\nfn a() {}").is_test(20));
    }

    #[test]
    fn literals_are_told_from_comments() {
        let source = Source::of("\"a\" // b");
        assert!(source.is_literal(1));
        assert!(!source.is_literal(7));
    }
}
