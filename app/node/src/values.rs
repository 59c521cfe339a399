//! Sizes, rates, times and choices as people write them, on a command line and in settings.
//!
//! Invariant: what is shown here is read back as the same value.

use shoal_transport::Binding;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

/// A number of bytes: `65536`, `16KiB`, `1M` (powers of 1024), `500kB`, `2MB` (powers of 1000).
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("write a size like 65536, 16KiB, 1M or 2GB".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "write a size like 65536, 16KiB, 1M or 2GB".to_owned())?;
    number
        .checked_mul(factor)
        .ok_or_else(|| "the size is too large".to_owned())
}

/// As [`parse_size`], for the length of a piece.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_piece_length(text: &str) -> Result<u32, String> {
    let size = parse_size(text)?;
    u32::try_from(size).map_err(|_| "no piece is as long as that".to_owned())
}

/// Bytes a second: a size, with or without `/s` behind it.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let size = parse_size(text.strip_suffix("/s").unwrap_or(text))?;
    NonZeroU64::new(size).ok_or_else(|| "a limit of 0 would stop everything".to_owned())
}

/// A time: `90` or `90s`, `10m`, `2h`, `1d`.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("write a time like 90s, 10m, 2h or 1d".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "write a time like 90s, 10m, 2h or 1d".to_owned())?;
    let seconds = number.checked_mul(factor);
    Ok(Duration::from_secs(
        seconds.ok_or_else(|| "the time is too long".to_owned())?,
    ))
}

/// A share ratio: a number above 0.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio: &f64| ratio.is_finite());
    ratio
        .filter(|&ratio| ratio > 0.0)
        .ok_or_else(|| "write a number above 0, like 1.5".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    (&text[..digits], text[digits..].trim_start())
}

/// A time: `30s`, `2m`, `1d`, in the largest unit that it is whole in.
#[must_use]
pub fn show_time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => "0s".to_owned(),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// A size or rate: `16KiB`, `1MiB`, `500`, in the largest unit that it is whole in.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    match bytes {
        b if b > 0 && b % (1 << 30) == 0 => format!("{}GiB", b >> 30),
        b if b > 0 && b % (1 << 20) == 0 => format!("{}MiB", b >> 20),
        b if b > 0 && b % (1 << 10) == 0 => format!("{}KiB", b >> 10),
        b => b.to_string(),
    }
}

/// A ratio in thousandths: a number from 0 with up to three digits behind the point.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_permille(text: &str) -> Result<u64, String> {
    let what =
        || "write a number like 1.5, with three digits behind the point at the most".to_owned();
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(rest) || rest.len() > 3 {
        return Err(what());
    }
    let whole: u64 = whole.parse().map_err(|_| what())?;
    let thousandths: u64 = format!("{rest:0<3}").parse().map_err(|_| what())?;
    // Beyond that it means nothing, and is told to the queue in 32 bits.
    let permille = whole
        .checked_mul(1_000)
        .and_then(|whole| whole.checked_add(thousandths));
    let permille = permille.filter(|&permille| permille <= u64::from(u32::MAX));
    permille.ok_or_else(|| "the ratio is too large".to_owned())
}

/// As [`parse_permille`] reads it.
#[must_use]
pub fn show_permille(permille: u64) -> String {
    let (whole, rest) = (permille / 1_000, permille % 1_000);
    match rest {
        0 => whole.to_string(),
        rest => format!("{whole}.{rest:03}")
            .trim_end_matches('0')
            .to_owned(),
    }
}

/// `on` or `off`.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write `on` or `off`".to_owned()),
    }
}

/// As [`parse_switch`] reads it.
#[must_use]
pub const fn show_switch(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// A number, or `all` where there is no limit.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_most(text: &str) -> Result<Option<u32>, String> {
    match text {
        "all" => Ok(None),
        number => match number.parse() {
            Ok(most) => Ok(Some(most)),
            Err(_) => Err("write a number, or `all`".to_owned()),
        },
    }
}

/// As [`parse_most`] reads it.
#[must_use]
pub fn show_most(most: Option<u32>) -> String {
    most.map_or_else(|| "all".to_owned(), |most| most.to_string())
}

/// Where name servers listen (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// What sockets are bound to: an address, the name of an interface, or `any`, which `0.0.0.0` is too.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_binding(text: &str) -> Result<Binding, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Ok(Binding::Any),
        Ok(address) => Ok(Binding::Address(address)),
        Err(_) if text == "any" => Ok(Binding::Any),
        // Longer than what a system calls one.
        Err(_) if text.is_empty() || text.len() > 255 => {
            Err("write an address or the name of an interface".to_owned())
        }
        Err(_) => Ok(Binding::Interface(text.to_owned())),
    }
}

/// A name server: an address, with a port where it is not the usual one.
///
/// # Errors
/// The text is something else: what to write.
pub fn parse_name_server(text: &str) -> Result<SocketAddr, String> {
    let address = text
        .parse::<IpAddr>()
        .map(|ip| SocketAddr::new(ip, DNS_PORT));
    let address = address.or_else(|_| text.parse());
    address.map_err(|_| format!("{text:?} is no name server: write an address, such as 10.8.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let cases = [
            ("65536", Some(65_536)),
            ("16KiB", Some(16_384)),
            ("1M", Some(1 << 20)),
            ("2 MiB", Some(2 << 20)),
            ("500kB", Some(500_000)),
            ("3g", Some(3 << 30)),
            ("0", Some(0)),
            ("", None),
            ("M", None),
            ("1X", None),
            ("-1", None),
            ("1.5M", None),
            ("99999999999999999999", None),
            ("18446744073709551615K", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text).ok(), expected, "{text}");
        }
        assert!(parse_piece_length("8G").is_err());
        assert_eq!(parse_rate("1M/s").unwrap().get(), 1 << 20);
        assert!(parse_rate("0").is_err());
    }

    #[test]
    fn times_and_ratios_are_read() {
        assert_eq!(parse_time("90").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_time("2h").unwrap(), Duration::from_secs(7_200));
        assert!(parse_time("5 weeks").is_err());
        assert!(parse_time("18446744073709551615d").is_err());
        assert_eq!(parse_ratio("1.5"), Ok(1.5));
        for bad in ["0", "-1", "nan", "inf", "x"] {
            assert!(parse_ratio(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes in 0..1u64 << 50, seconds in 0..1u64 << 40, ratio in 0..=u32::MAX, most: Option<u32>) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
            let time = Duration::from_secs(seconds);
            prop_assert_eq!(parse_time(&show_time(time)), Ok(time));
            let permille = u64::from(ratio);
            prop_assert_eq!(parse_permille(&show_permille(permille)), Ok(permille));
            prop_assert_eq!(parse_most(&show_most(most)), Ok(most));
        }
    }

    #[test]
    fn ratios_are_read_as_people_write_them() {
        for (text, expected) in [
            ("2", Some(2_000)),
            ("1.5", Some(1_500)),
            ("0.125", Some(125)),
            ("0", Some(0)),
        ] {
            assert_eq!(parse_permille(text).ok(), expected);
        }
        for bad in ["", ".5", "-1", "1.2345", "1e3", "nan", "99999999"] {
            assert!(parse_permille(bad).is_err(), "{bad}");
        }
    }
}
