//! Decimal numbers of any length, compared by value.

/// A number taken apart: 0.digits × 10^exponent, without zeros at either end of the digits.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

/// Whether two texts are the same number. What is no number is equal to nothing.
pub(crate) fn same(one: &str, two: &str) -> bool {
    match (parse(one), parse(two)) {
        (Some(one), Some(two)) => one == two,
        _ => false,
    }
}

fn parse(text: &str) -> Option<Decimal> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        return Some(Decimal { negative: false, digits: String::new(), exponent: 0 });
    }
    let leading_zeros = i64::try_from(all.len() - significant.len()).ok()?;
    let exponent = exponent.checked_add(i64::try_from(whole.len()).ok()?)?.checked_sub(leading_zeros)?;
    Some(Decimal { negative, digits: significant.trim_end_matches('0').to_owned(), exponent })
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn the_same_value_in_other_digits_is_the_same() {
        for (one, two) in [
            ("1.50", "1.5"),
            ("0", "-0.000"),
            ("100", "1E+2"),
            ("0.001", "1e-3"),
            ("00012.0", "12"),
            ("-45616119004.09", "-4561611900409e-2"),
        ] {
            assert!(same(one, two), "{one} = {two}");
        }
    }

    #[test]
    fn a_digit_or_a_sign_makes_another_value() {
        for (one, two) in [
            ("9007199254740993", "9007199254740992"),
            ("0.1", "0.10000000000000000000000000001"),
            ("1", "-1"),
            ("10", "100"),
            ("0.01", "0.1"),
        ] {
            assert!(!same(one, two), "{one} ≠ {two}");
        }
    }

    #[test]
    fn what_is_no_number_equals_nothing() {
        for text in ["", ".", "-", "NaN", "1.2.3", "0x1", "1e", "1 "] {
            assert!(!same(text, text), "{text:?}");
        }
    }
}
