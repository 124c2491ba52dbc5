//! The tokenizer of master files (RFC 1035 §5.1): octets in, the words of one entry at a time out.
//!
//! An entry is one line, or several joined by parentheses. A token is only a span of the text and
//! whether it was quoted; escapes are kept and resolved by whoever knows what the word means. So
//! the hot path copies nothing. Octets above 127 are words like any other.
//!
//! Where NSD and Knot differ the stricter wins: parentheses do not nest, a quoted string goes over a
//! line end only inside parentheses, and a quote is followed by a blank.
//!
//! After a fault the tokenizer stands at the next entry. When a parenthesis or quote was left open
//! nobody knows where that is; the next line that starts with a word in its first column is taken.

/// One word of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// Offset of its first octet, the quote not counted.
    pub start: u32,
    /// Offset behind its last octet, the quote not counted.
    pub end: u32,
    /// Line, from 1.
    pub line: u32,
    /// Offset of the first octet of that line.
    pub line_start: u32,
    /// Whether it stood in quotes.
    pub quoted: bool,
}

impl Token {
    /// Its octets, escapes and all.
    pub(super) fn bytes<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Where it stands.
    pub(super) fn spot(&self) -> Spot {
        Spot {
            offset: self.start - u32::from(self.quoted),
            line: self.line,
            line_start: self.line_start,
        }
    }
}

/// A place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    /// Offset of the octet meant.
    pub offset: u32,
    /// Line, from 1.
    pub line: u32,
    /// Offset of the first octet of that line.
    pub line_start: u32,
}

impl Spot {
    /// The column in characters, from 1. Octets that continue a UTF-8 sequence do not count.
    pub(super) fn column(&self, text: &[u8]) -> usize {
        let before = text.get(self.line_start as usize..self.offset as usize).unwrap_or_default();
        1 + before.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
    }
}

/// What is wrong with the text as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LexFault {
    /// Where.
    pub spot: Spot,
    /// What.
    pub message: &'static str,
    /// What to do.
    pub hint: &'static str,
}

/// Reads a text entry by entry. The text is shorter than 4 GiB; the caller sees to that.
pub(super) struct Lexer<'t> {
    /// All of the text.
    text: &'t [u8],
    /// Offset of the next octet.
    at: usize,
    /// Line of the next octet, from 1.
    line: u32,
    /// Offset where that line starts.
    line_start: usize,
}

impl<'t> Lexer<'t> {
    /// Starts at the first octet.
    pub(super) fn new(text: &'t [u8]) -> Lexer<'t> {
        Lexer {
            text,
            at: 0,
            line: 1,
            line_start: 0,
        }
    }

    /// Fills `tokens` with the next entry and says whether it starts with a blank (its owner is then
    /// the one before). None at the end of the text.
    ///
    /// # Errors
    /// With the fault; the next call goes on at the next entry.
    pub(super) fn next_entry(&mut self, tokens: &mut Vec<Token>) -> Result<Option<bool>, LexFault> {
        let mut open = None;
        match self.entry(tokens, &mut open) {
            Err(fault) => {
                self.recover(open);
                Err(fault)
            }
            entry => entry,
        }
    }

    /// Reads one entry; `open` is the parenthesis that is open.
    fn entry(&mut self, tokens: &mut Vec<Token>, open: &mut Option<Spot>) -> Result<Option<bool>, LexFault> {
        tokens.clear();
        let mut indented = false;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'\n' => {
                    self.newline();
                    if open.is_none() {
                        if !tokens.is_empty() {
                            return Ok(Some(indented));
                        }
                        indented = false;
                    }
                }
                b' ' | b'\t' => {
                    indented |= self.at == self.line_start && tokens.is_empty() && open.is_none();
                    self.at += 1;
                }
                b'\r' if matches!(self.text.get(self.at + 1), Some(b'\n') | None) => self.at += 1,
                b'\r' => return Err(self.fault("a carriage return stands alone", "end lines with LF or CR LF")),
                b';' => self.skip_comment(),
                b'(' => self.open(tokens.is_empty() && !indented, open)?,
                b')' if open.take().is_none() => {
                    return Err(self.fault("a parenthesis is closed that was not opened", "remove it, or write it as \\)"));
                }
                b')' => self.at += 1,
                b'"' => tokens.push(self.quoted(open.is_some())?),
                _ => tokens.push(self.word()?),
            }
        }
        if let Some(spot) = *open {
            return Err(LexFault {
                spot,
                message: "the parenthesis is not closed",
                hint: "add a \")\" at the end of the record",
            });
        }
        Ok((!tokens.is_empty()).then_some(indented))
    }

    /// Takes `(`.
    fn open(&mut self, before_owner: bool, open: &mut Option<Spot>) -> Result<(), LexFault> {
        if let Some(spot) = *open {
            return Err(LexFault {
                spot,
                message: "the parenthesis is not closed before the next one is opened",
                hint: "parentheses do not nest; add a \")\" at the end of the record",
            });
        }
        if before_owner {
            return Err(self.fault(
                "a parenthesis stands where the owner name is expected",
                "write the owner name first",
            ));
        }
        *open = Some(self.spot());
        self.at += 1;
        Ok(())
    }

    /// Takes a word without quotes. `key="value"` of a service parameter (RFC 9460 §2.1) is one word.
    fn word(&mut self) -> Result<Token, LexFault> {
        let (from, line, line_start) = (self.at, self.line, self.line_start);
        let mut before = 0;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | b';' | b'(' | b')' => break,
                b'\\' => self.escape()?,
                b'"' if before == b'=' => {
                    self.quoted(false)?;
                    break;
                }
                b'"' => return Err(self.fault("a quote stands inside a word", "quote the whole word, or write the quote as \\\"")),
                _ => self.at += 1,
            }
            before = if byte == b'\\' { 0 } else { byte };
        }
        Ok(token(from, self.at, line, line_start, false))
    }

    /// Takes a quoted string; `multiline` inside parentheses.
    fn quoted(&mut self, multiline: bool) -> Result<Token, LexFault> {
        let opened = self.spot();
        let (line, line_start) = (self.line, self.line_start);
        self.at += 1;
        let from = self.at;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(b'\n') if multiline => self.newline(),
                Some(b'\n') | None => {
                    return Err(LexFault {
                        spot: opened,
                        message: "the quote is not closed",
                        hint: "add a \" at the end of the string; a string goes over a line end only inside parentheses",
                    });
                }
                Some(_) => self.at += 1,
            }
        }
        let token = token(from, self.at, line, line_start, true);
        self.at += 1;
        match self.text.get(self.at) {
            None | Some(b' ' | b'\t' | b'\n' | b'\r' | b';' | b'(' | b')') => Ok(token),
            Some(_) => Err(self.fault("a blank is missing behind the closing quote", "put a blank between two strings")),
        }
    }

    /// Steps over a backslash and the octet that it protects.
    fn escape(&mut self) -> Result<(), LexFault> {
        match self.text.get(self.at + 1) {
            None | Some(b'\n' | b'\r') => Err(self.fault(
                "a backslash stands at the end of the line",
                "write a backslash itself as \\\\; join lines with parentheses",
            )),
            Some(_) => {
                self.at += 2;
                Ok(())
            }
        }
    }

    /// Steps to the end of the line.
    fn skip_comment(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    }

    /// Steps over a line feed.
    fn newline(&mut self) {
        self.at += 1;
        self.line += 1;
        self.line_start = self.at;
    }

    /// Goes to the next entry after a fault. With a parenthesis open: back to its line, and on to the
    /// next line that starts with a word.
    fn recover(&mut self, open: Option<Spot>) {
        if let Some(spot) = open {
            self.at = spot.offset as usize;
            self.line = spot.line;
            self.line_start = spot.line_start as usize;
        }
        loop {
            self.skip_comment();
            if self.at >= self.text.len() {
                return;
            }
            self.newline();
            let starts_entry = !matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r' | b';' | b')' | b'"'));
            if open.is_none() || starts_entry {
                return;
            }
        }
    }

    /// Where the next octet stands.
    fn spot(&self) -> Spot {
        Spot {
            offset: self.at as u32,
            line: self.line,
            line_start: self.line_start as u32,
        }
    }

    /// A fault at the next octet.
    fn fault(&self, message: &'static str, hint: &'static str) -> LexFault {
        LexFault {
            spot: self.spot(),
            message,
            hint,
        }
    }
}

/// Puts a token together. Offsets fit, as the text is shorter than 4 GiB.
fn token(start: usize, end: usize, line: u32, line_start: usize, quoted: bool) -> Token {
    Token {
        start: start as u32,
        end: end as u32,
        line,
        line_start: line_start as u32,
        quoted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every entry as its words (quoted ones in quotes, `>` before an indented entry), or the fault's message and place.
    fn entries(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text.as_bytes());
        let (mut tokens, mut out) = (Vec::new(), Vec::new());
        loop {
            match lexer.next_entry(&mut tokens) {
                Ok(None) => return out,
                Ok(Some(indented)) => {
                    let words: Vec<String> = tokens
                        .iter()
                        .map(|token| {
                            let word = String::from_utf8_lossy(token.bytes(text.as_bytes())).into_owned();
                            if token.quoted { format!("{word:?}") } else { word }
                        })
                        .collect();
                    out.push(format!("{}{}", if indented { ">" } else { "" }, words.join("|")));
                }
                Err(fault) => out.push(format!(
                    "!{}:{} {}",
                    fault.spot.line,
                    fault.spot.column(text.as_bytes()),
                    fault.message
                )),
            }
        }
    }

    #[test]
    fn entries_are_lines_joined_by_parentheses() {
        assert_eq!(entries("a b;c\r\n  c ( d ; x ) (\n e) f\n\n \n;\ng"), ["a|b", ">c|d|e|f", "g"]);
        assert_eq!(entries("a(b)c"), ["a|b|c"]);
        assert_eq!(entries(""), [""; 0]);
    }

    #[test]
    fn quotes_keep_blanks_and_escapes_protect() {
        assert_eq!(entries(r#"a "b ;( c" d\;e\"f"#), [r#"a|"b ;( c"|d\;e\"f"#]);
        assert_eq!(entries(r#"a alpn="h 2" x"#), [r#"a|alpn="h 2"|x"#]);
        assert_eq!(entries("a (\"b\nc\")"), ["a|\"b\\nc\""]);
        assert_eq!(entries("ä \"ü\"x"), ["!1:6 a blank is missing behind the closing quote"]);
    }

    #[test]
    fn after_a_fault_the_next_entry_is_read() {
        assert_eq!(entries("a \"b\nc d"), ["!1:3 the quote is not closed", "c|d"]);
        assert_eq!(entries("a ( b\n c\nd e\n"), ["!1:3 the parenthesis is not closed", "d|e"]);
        assert_eq!(
            entries("a ( b\n c\nd ( e )\n"),
            ["!1:3 the parenthesis is not closed before the next one is opened", "d|e"]
        );
        assert_eq!(entries("a )\nb"), ["!1:3 a parenthesis is closed that was not opened", "b"]);
        assert_eq!(entries("a \\\nb"), ["!1:3 a backslash stands at the end of the line", "b"]);
        assert_eq!(entries("a b\rc\nd"), ["!1:4 a carriage return stands alone", "d"]);
    }
}
