//! A frame in hex, in the forms in which people have it: bare, with separators, or the dump of a tool. It opens nothing.

use anyhow::{anyhow, bail};

use crate::limits::ETHERNET_LEN;

/// The bytes of a frame. Each line may begin with an offset (`0x0010:`, `00000010:`, `00000010  `) and end with the text column of
/// xxd, hexdump -C and tcpdump -XX.
///
/// # Errors
/// No hex, or less than an Ethernet header; the message shows the place.
pub fn frame(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for line in text.lines() {
        of_line(line, &mut bytes).map_err(|e| {
            anyhow!("--frame takes a whole frame in hex, or the dump of a tool: in {:?}: {e}", line.trim())
        })?;
    }
    if bytes.len() < ETHERNET_LEN {
        bail!(
            "--frame takes a whole frame from the destination MAC on, in hex: at least 14 bytes, like 020000000001…; \
             here are {} (tcpdump writes the Ethernet header with -xx, not with -x)",
            bytes.len()
        );
    }
    Ok(bytes)
}

fn of_line(line: &str, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let before = bytes.len();
    let (rest, dump) = without_offset(line.trim_end(), before)?;
    // The text column: behind a bar, or behind two spaces where a dump has hex and text.
    let hex = rest.split('|').next().unwrap_or_default().trim_start();
    let hex = if dump { before_text(hex) } else { hex };
    let is_separator = |c: char| c.is_whitespace() || matches!(c, ':' | '-' | ',' | ';' | '.');
    let words = hex.split(is_separator).filter(|w| !w.is_empty());
    for word in words {
        let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("\\x")).unwrap_or(word);
        let digits = digits.replace("\\x", "");
        let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex || !(digits.len().is_multiple_of(2) || digits.len() == 1) {
            bail!("{word:?} is no hex of whole bytes (two digits each)");
        }
        for pair in digits.as_bytes().chunks(2) {
            let value = pair.iter().fold(0, |sum, digit| sum * 16 + char::from(*digit).to_digit(16).unwrap_or(0));
            bytes.push(value as u8);
        }
    }
    Ok(())
}

/// The line without its offset, and whether it had one. A number that is no offset is data.
fn without_offset(line: &str, so_far: usize) -> anyhow::Result<(&str, bool)> {
    let trimmed = line.trim_start();
    let Some((first, rest)) = trimmed.split_once(char::is_whitespace) else {
        // `hexdump -C` ends with the length alone.
        let is_end = so_far > 0 && trimmed.len() == 8 && usize::from_str_radix(trimmed, 16) == Ok(so_far);
        return Ok(if is_end { ("", true) } else { (trimmed, false) });
    };
    let (number, colon) = first.strip_suffix(':').map_or((first, false), |number| (number, true));
    let digits = number.strip_prefix("0x").unwrap_or(number);
    let Ok(offset) = usize::from_str_radix(digits, 16) else { return Ok((trimmed, false)) };
    // Without a colon: the digits and two spaces or more of hexdump and Wireshark.
    let is_offset = if colon { digits.len() >= 4 } else { matches!(first.len(), 4 | 8) && rest.starts_with(" ") };
    if !is_offset {
        return Ok((trimmed, false));
    }
    if offset != so_far {
        bail!("the line says offset {offset}, but {so_far} bytes came before it: is a line missing?");
    }
    Ok((rest, true))
}

/// The hex of a dump's line: hexdump groups by single spaces, and by two after eight bytes; the text follows after two or more.
fn before_text(line: &str) -> &str {
    let mut end = line.len();
    for (at, _) in line.match_indices("  ") {
        let rest = line[at..].trim_start();
        let word = rest.split_whitespace().next().unwrap_or_default();
        let last = line[..at].split_whitespace().last().unwrap_or_default();
        let goes_on = word.len() == 2 && last.len() == 2 && line[..at].split_whitespace().count() == 8;
        if !(goes_on && word.bytes().all(|b| b.is_ascii_hexdigit())) {
            end = at;
            break;
        }
    }
    &line[..end]
}

#[cfg(test)]
mod tests {
    use super::frame;

    const BYTES: [u8; 22] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x61, 8, 0, 0x45, 0, 0x61, 0x62, 0x63, 0x20, 0x20, 0x7c];

    #[test]
    fn every_form_says_the_same_bytes() {
        for text in [
            "02000000000102000000006108004500616263 20207c",
            "02 00 00 00 00 01 02 00 00 00 00 61 08 00 45 00 61 62 63 20 20 7c",
            "02:00:00:00:00:01-02:00:00:00:00:61,0800 4500 6162 63 2020 7c",
            "0x02, 0x0, 0x00, 0x00, 0x00, 0x1, 0x02,0x00,0x00,0x00,0x00,0x61,0x08,0x00,0x45,0x00,0x61,0x62,0x63,0x20,0x20,0x7C",
            "0x02000000000102000000006108004500616263 20207c",
            "\\x02\\x00\\x00\\x00\\x00\\x01\\x02\\x00\\x00\\x00\\x00\\x61\\x08\\x00\\x45\\x00\\x61\\x62\\x63\\x20\\x20\\x7c",
            "00000000: 0200 0000 0001 0200 0000 0061 0800 4500  ...........a..E.\n00000010: 6162 6320 207c                           abc  |\n",
            "00000000  02 00 00 00 00 01 02 00  00 00 00 61 08 00 45 00  |...........a..E.|\n00000010  61 62 63 20 20 7c                                 |abc  ||\n00000016\n",
            "\t0x0000:  0200 0000 0001 0200 0000 0061 0800 4500\n\t0x0010:  6162 6320 207c\n",
            "\t0x0000:  0200 0000 0001 0200 0000 0061 0800 4500  ...........a..E.\n\t0x0010:  6162 6320 207c                           abc..|\n",
            "0000   02 00 00 00 00 01 02 00 00 00 00 61 08 00 45 00   ...........a..E.\n0010   61 62 63 20 20 7c                                 abc  |\n",
        ] {
            assert_eq!(frame(text).unwrap_or_else(|e| panic!("{text}: {e:#}")), BYTES, "{text}");
        }
    }

    #[test]
    fn what_is_no_frame_is_told() {
        for (text, word) in [
            ("xyz", "\"xyz\" is no hex"),
            ("0200", "at least 14 bytes"),
            ("020", "whole bytes"),
            ("00000000: 0200 0000\n00000010: 0100", "is a line missing"),
            ("", "here are 0"),
        ] {
            let error = format!("{:#}", frame(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
