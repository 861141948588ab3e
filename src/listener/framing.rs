//! Whether a request's head says in exactly one way where its body ends (A07 of the attack table).
//!
//! hyper resolves a message with both `Content-Length` and `Transfer-Encoding`, and merges lengths that are equal, as RFC 9112
//! lets it: the service never sees that there were two. A proxy before us may resolve them otherwise, and what is a body to it
//! is then a request to us. So the bytes are followed here as they go to hyper, and each head that is unambiguous is vouched
//! for; a request beyond the vouched ones is answered 400.
//!
//! Invariant: what is vouched for is a strict subset of what hyper accepts, and within it both find the same boundaries.
//! Anything else (bare line feeds, a coding other than `chunked`, a chunk size of an odd form) ends the vouching for good, so a
//! disagreement can refuse a request and never admit one.

/// Bytes of a line that are looked at: `transfer-encoding: chunked` and a length of 20 digits with room for blanks.
const LINE_BYTES: usize = 64;

/// Follows one connection's incoming bytes. Allocates nothing.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    line: Line,
    vouched: u64,
    lost_in_body: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a request line; blank lines are allowed there.
    Start,
    /// Among header lines, with what they said of the body.
    Headers(Body),
    /// In so many bytes of a body, or of a chunk with the line end after it.
    Bytes { left: u64, chunked: bool },
    /// After a chunk's data: its line end.
    ChunkEnd,
    /// Before a chunk's size.
    ChunkSize,
    /// After the last chunk.
    Trailers,
    /// Not followed any more.
    Lost,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Unsaid,
    Length(u64),
    Chunked,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self { state: State::Start, line: Line::new(), vouched: 0, lost_in_body: false }
    }

    /// Heads that were unambiguous so far, each after a body whose end was, too.
    pub(super) fn vouched(&self) -> u64 {
        self.vouched
    }

    /// Whether the last head was vouched for and the end of its body is not known: that request may be answered, and nobody may
    /// take its connection for another.
    pub(super) fn lost_in_body(&self) -> bool {
        self.lost_in_body
    }

    /// Takes the next bytes of the connection.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Lost => return,
                State::Bytes { left, chunked } => {
                    let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    bytes = bytes.get(taken..).unwrap_or_default();
                    self.state = match (left - taken as u64, chunked) {
                        (0, true) => State::ChunkEnd,
                        (0, false) => State::Start,
                        (left, _) => State::Bytes { left, chunked },
                    };
                }
                _ => {
                    let (line, rest) = match bytes.iter().position(|b| *b == b'\n') {
                        Some(at) => bytes.split_at(at + 1),
                        None => return self.line.keep(bytes),
                    };
                    bytes = rest;
                    // Most lines come in one piece and are judged where they are.
                    let line = if self.line.is_empty() { line } else { self.line.end(line) };
                    let next = self.state.after(line);
                    let was_head = matches!(self.state, State::Headers(_));
                    self.lost_in_body = next.is_none() && !was_head && !matches!(self.state, State::Start);
                    self.state = next.unwrap_or(State::Lost);
                    if was_head && !matches!(self.state, State::Headers(_) | State::Lost) {
                        self.vouched += 1;
                    }
                }
            }
        }
    }
}

impl State {
    /// The state after a whole line, or `None` when it can be read in two ways. Of a line longer than [`LINE_BYTES`] the middle
    /// may be missing.
    fn after(self, line: &[u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r\n")?;
        Some(match self {
            Self::Start if line.is_empty() => Self::Start,
            Self::Start => Self::Headers(Body::Unsaid),
            Self::Headers(body) if line.is_empty() => match body {
                Body::Unsaid | Body::Length(0) => Self::Start,
                Body::Length(left) => Self::Bytes { left, chunked: false },
                Body::Chunked => Self::ChunkSize,
            },
            Self::Headers(body) => Self::Headers(body.with(line)?),
            Self::ChunkEnd if line.is_empty() => Self::ChunkSize,
            Self::ChunkSize => match chunk_size(line)? {
                0 => Self::Trailers,
                left => Self::Bytes { left, chunked: true },
            },
            Self::Trailers if line.is_empty() => Self::Start,
            Self::Trailers => Self::Trailers,
            Self::Bytes { .. } | Self::ChunkEnd | Self::Lost => return None,
        })
    }
}

impl Body {
    fn with(self, line: &[u8]) -> Option<Self> {
        // A folded line continues the one before, or does not, depending on who reads it.
        if matches!(line.first()?, b' ' | b'\t') {
            return None;
        }
        let Some(colon) = line.iter().take(LINE_BYTES).position(|b| *b == b':') else { return Some(self) };
        let (name, value) = line.split_at(colon);
        let bare = name.trim_ascii_end();
        let is_length = bare.eq_ignore_ascii_case(b"content-length");
        if !is_length && !bare.eq_ignore_ascii_case(b"transfer-encoding") {
            return Some(self);
        }
        // The second one, a blank before the colon, or a value cut short by our own bound.
        if !matches!(self, Self::Unsaid) || bare.len() != name.len() || line.len() > LINE_BYTES {
            return None;
        }
        let value = value.get(1..)?.trim_ascii();
        if is_length {
            return number(value, 10).map(Self::Length);
        }
        value.eq_ignore_ascii_case(b"chunked").then_some(Self::Chunked)
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|b| matches!(b, b';' | b' ' | b'\t')).next()?;
    // More digits than a u64 has are zeros first; there is no need to know how many were left out.
    (digits.len() <= 16).then(|| number(digits, 16))?
}

/// A number of digits alone: no sign, no blanks, no overflow.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(radix.into())?.checked_add(digit.into())
    })
}

/// A line that comes in pieces: its beginning, and how it ends.
#[derive(Debug)]
struct Line {
    bytes: [u8; LINE_BYTES + 4],
    length: usize,
    last: u8,
}

impl Line {
    fn new() -> Self {
        Self { bytes: [0; LINE_BYTES + 4], length: 0, last: 0 }
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.length);
        self.length += room.zip(piece).map(|(to, from)| *to = *from).count();
        self.last = piece.last().copied().unwrap_or(self.last);
    }

    /// The line that `piece` ends, empty again for the next. A long one has lost its middle, never its end.
    fn end(&mut self, piece: &[u8]) -> &[u8] {
        let before = piece.len().checked_sub(2).and_then(|at| piece.get(at)).copied().unwrap_or(self.last);
        self.keep(piece);
        if self.length == self.bytes.len()
            && let Some(end) = self.bytes.last_chunk_mut::<2>()
        {
            *end = [before, b'\n'];
        }
        let length = std::mem::take(&mut self.length);
        self.bytes.get(..length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many heads of `bytes` are vouched for; the pieces in which they come make no difference.
    fn vouched(bytes: &[u8]) -> u64 {
        let in_pieces_of = |size| {
            let mut framing = Framing::new();
            bytes.chunks(size).for_each(|piece| framing.follow(piece));
            framing.vouched()
        };
        let whole = in_pieces_of(bytes.len());
        for size in [1, 2, 3, 7, 63, 65, 1000] {
            assert_eq!(in_pieces_of(size), whole, "in pieces of {size}: {:?}", String::from_utf8_lossy(bytes));
        }
        whole
    }

    fn check(headers: &str, body: &str, expected: u64) {
        let first = format!("POST /sns HTTP/1.1\r\nHost: p\r\n{headers}\r\n{body}");
        let text = format!("{first}POST /sns HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(vouched(text.as_bytes()), expected, "{headers:?} {body:?}");
    }

    #[test]
    fn one_length_or_one_chunked_coding_or_neither_leads_to_the_next_head() {
        check("", "", 2);
        check("", "\r\n\r\n", 2);
        check("Content-Length: 0\r\n", "", 2);
        check("cOnTeNt-LeNgTh:  \t3 \r\n", "abc", 2);
        check("Content-Length: 52\r\n", "Content-Length: 5\r\n\r\nTransfer-Encoding: chunked\r\n\r\n", 2);
        check("Transfer-Encoding: Chunked\r\n", "0\r\n\r\n", 2);
        check("Transfer-Encoding:chunked\r\n", "1F;a=b\r\nContent-Length: 1\r\n\r\n567890abcd\r\n0\r\nX: y\r\n\r\n", 2);
        check(&format!("X-{}: y\r\nX-Content-Length: 1\r\nContent-Length2: 1\r\n", "a".repeat(300)), "", 2);
        check(&format!("X: {}\r\n", "content-length: 1 ".repeat(300)), "", 2);
        check("Transfer-Encoding: chunked\r\n", "1 \t\r\nx\r\n00 ; a=b\r\n\r\n", 2);
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(300));
        check("Transfer-Encoding: chunked\r\n", &long, 2);
    }

    #[test]
    fn a_head_that_says_it_twice_or_oddly_is_not_vouched_for_and_nothing_after_it_is() {
        for headers in [
            "Content-Length: 0\r\nContent-Length: 0\r\n",
            "Content-Length: 0\r\ncontent-length: 1\r\n",
            "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
            "TRANSFER-ENCODING: chunked\r\nX: y\r\nCONTENT-LENGTH: 0\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Content-Length\t: 0\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding:\r\n",
            "Transfer-Encoding: \u{b}chunked\r\n",
            "Content-Length: 0, 0\r\n",
            "Content-Length: +0\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "X: y\r\n folded\r\n",
            "X: y\r\n\tContent-Length: 0\r\n",
            "X: y\nContent-Length: 0\r\n",
        ] {
            check(headers, "", 0);
        }
        check(&format!("Content-Length: {}0\r\n", " ".repeat(80)), "", 0);
    }

    #[test]
    fn a_chunked_body_of_an_odd_form_ends_the_vouching() {
        for body in [
            "0\n\r\n",
            "0x0\r\n\r\n",
            "\r\n0\r\n\r\n",
            "1\r\nab\r\n0\r\n\r\n",
            "1\r\na0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\nX: y\n\n\r\n",
            "ffffffffffffffffff\r\n",
            "1;a\nb\r\nx\r\n0\r\n\r\n",
        ] {
            check("Transfer-Encoding: chunked\r\n", body, 1);
        }
        let zeros = format!("{}5\r\nabcde\r\n0\r\n\r\n", "0".repeat(200));
        check("Transfer-Encoding: chunked\r\n", &zeros, 1);
    }
}
