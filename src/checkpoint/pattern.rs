//! Patterns of layer names, as lists of ignored layers use them: `*` stands for any characters, dots included.

/// Whether `name` is one of the names that `pattern` describes.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        // The leftmost place is always as good as any later one.
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Text order with numbers compared as numbers: `layers.2` before `layers.10`.
pub fn natural_key(name: &str) -> Vec<(u128, &str)> {
    let digit = |b: &u8| b.is_ascii_digit();
    name.split('.')
        .map(|part| {
            let number = part.as_bytes().iter().all(digit).then(|| part.parse().ok()).flatten();
            number.map_or((u128::MAX, part), |n| (n, part))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run_and_nothing_else_is_special() {
        for (pattern, name, expected) in [
            ("lm_head", "lm_head", true),
            ("lm_head", "model.lm_head", false),
            ("lm_head", "lm_head2", false),
            ("*lm_head", "model.lm_head", true),
            ("*self_attn*", "model.layers.0.self_attn.q_proj", true),
            ("model.layers.1.*", "model.layers.10.mlp", false),
            ("model.layers.1*", "model.layers.10.mlp", true),
            ("*a*b*", "xxbxa", false),
            ("*a*b*", "xaxbx", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a.c", "abc", false),
            ("**x", "x", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn many_stars_take_linear_time() {
        assert!(!matches(&"*a".repeat(2000), &"b".repeat(200_000)));
        assert!(!matches(&("*a".repeat(2000) + "b"), &"a".repeat(200_000)));
    }

    #[test]
    fn layers_sort_by_number() {
        let mut names = ["m.layers.10.a", "m.layers.2.b", "m.layers.2.a", "lm_head", "m.norm"];
        names.sort_by(|a, b| natural_key(a).cmp(&natural_key(b)));
        assert_eq!(names, ["lm_head", "m.layers.2.a", "m.layers.2.b", "m.layers.10.a", "m.norm"]);
    }
}
