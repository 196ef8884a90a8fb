use super::*;

fn controller(policy: impl Policy + 'static) -> Controller {
    Controller::new(Box::new(policy), Boundaries::new([3], [5, 7]))
}

fn reset(window: usize, include_current: bool) -> Controller {
    controller(StepAware::new(0.25, 0.5, 1.0, window, include_current).expect("valid"))
}

#[test]
fn the_first_token_is_judged_by_tau_0() {
    for (entropy, temperature) in [(0.49, 0.25), (0.5, 1.0), (2.0, 1.0)] {
        let d = reset(32, false).step(entropy).expect("finite");
        assert_eq!((d.temperature, d.uncertain, d.threshold), (temperature, false, 0.5));
        assert_eq!((d.step_entropy, d.global_mean), (f64::from(entropy), f64::from(entropy)));
    }
}

#[test]
fn means_are_over_the_tokens_before() {
    let mut c = reset(2, false);
    let seen: Vec<_> = [1.0, 2.0, 4.0, 8.0].map(|h| c.step(h).expect("finite")).iter().map(|d| (d.step_entropy, d.global_mean)).collect();
    // From two tokens in the step on, the step's own mean replaces the window's.
    assert_eq!(seen, [(1.0, 1.0), (1.0, 1.0), (1.5, 1.5), (7.0 / 3.0, 7.0 / 3.0)]);
}

#[test]
fn the_window_spans_a_boundary_and_the_step_does_not() {
    let mut c = reset(2, false);
    for h in [1.0, 1.0, 1.0, 4.0] {
        c.step(h).expect("finite");
    }
    c.observe(5);
    let d = c.step(2.0).expect("finite"); // step empty: window of 1, 4
    assert_eq!((d.step_entropy, d.global_mean, d.boundary, d.step_index), (2.5, 1.75, true, 1));
    assert_eq!((d.uncertain, d.threshold, d.temperature), (true, 2.5, 0.25));
    let d = c.step(6.0).expect("finite"); // one token in the step: window of 4, 2
    assert_eq!((d.step_entropy, d.boundary), (3.0, false));
    let d = c.step(6.0).expect("finite"); // two in the step: their mean
    assert_eq!(d.step_entropy, 4.0);
}

#[test]
fn include_current_joins_step_and_window_only() {
    let mut c = reset(2, true);
    let first = c.step(1.0).expect("finite");
    assert_eq!((first.step_entropy, first.global_mean), (1.0, 1.0));
    let second = c.step(3.0).expect("finite"); // window of 1, 3
    assert_eq!((second.step_entropy, second.global_mean), (2.0, 1.0));
    let third = c.step(8.0).expect("finite"); // two tokens before: step of 1, 3, 8
    assert_eq!((third.step_entropy, third.global_mean), (4.0, 2.0));
    c.observe(7);
    let fourth = c.step(4.0).expect("finite"); // window of 8, 4
    assert_eq!((fourth.step_entropy, fourth.global_mean), (6.0, 4.0));
}

#[test]
fn newline_pairs_and_blank_line_tokens_begin_steps() {
    //            token:   3     3      3     1      3      1      3      5     3      3
    let begins = [false, true, true, false, false, false, false, true, false, true];
    let mut c = reset(4, false);
    c.step(1.0).expect("finite");
    let mut index = 0;
    for (token, begins) in [3, 3, 3, 1, 3, 1, 3, 5, 3, 3].into_iter().zip(begins) {
        c.observe(token);
        let d = c.step(1.0).expect("finite");
        index += u64::from(begins);
        assert_eq!((d.boundary, d.step_index), (begins, index), "after {token}");
    }
}

#[test]
fn prompt_tokens_do_not_count() {
    let mut c = reset(4, false);
    c.observe(5);
    c.observe(3);
    assert!(!c.step(1.0).expect("finite").boundary);
    c.observe(3);
    assert!(!c.step(1.0).expect("finite").boundary);
}

#[test]
fn a_boundary_decided_on_text_overrules_the_tokens() {
    let mut c = reset(4, false);
    c.step(1.0).expect("finite");
    c.observe(5);
    c.observe_boundary(false);
    assert!(!c.step(1.0).expect("finite").boundary);
    c.observe_boundary(true);
    assert!(c.step(1.0).expect("finite").boundary);
    assert!(!c.step(1.0).expect("finite").boundary);
}

#[test]
fn before_the_first_boundary_nothing_is_uncertain() {
    // Random values whose sums round: only identical additions give identical means.
    for window in [1, 4, 32] {
        let mut c = reset(window, false);
        let mut state = 9u64;
        for t in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let d = c.step((state >> 33) as f32 * 1e-9 + 1e-12).expect("finite");
            assert!(!d.uncertain, "window {window}, token {t}");
        }
    }
}

#[test]
fn a_snapshot_brings_back_the_very_state() {
    let mut c = reset(3, false);
    let feed = |c: &mut Controller, from: u32, to: u32| -> Vec<Decision> {
        (from..to)
            .map(|t| {
                c.observe([1, 3, 3, 5, 2][t as usize % 5]);
                c.step((t * 37 % 11) as f32 * 0.31).expect("finite")
            })
            .collect()
    };
    feed(&mut c, 0, 7);
    let snapshot = c.snapshot().expect("built-in");
    let first = feed(&mut c, 7, 40);
    c.restore(&snapshot).expect("same window");
    assert_eq!(c.state(), &snapshot.state);
    assert_eq!(feed(&mut c, 7, 40), first);
    let parts = snapshot.state.running.to_parts();
    assert_eq!(Running::from_parts(&parts).expect("its own parts"), snapshot.state.running);
    c.reset().expect("built-in");
    assert_eq!(c.state(), reset(3, false).state());
    assert!(reset(4, false).restore(&snapshot).expect_err("other window").to_string().contains("window = 3"), "names it");
}

#[test]
fn policies_without_a_quantity_say_nan() {
    let d = controller(EntropyThreshold::new(0.2, 0.7, 1.0).expect("valid")).step(0.8).expect("finite");
    assert_eq!((d.temperature, d.threshold, d.uncertain), (1.0, 0.7, false));
    assert!(d.step_entropy.is_nan() && d.global_mean.is_nan());
    let d = controller(Fixed::new(0.6).expect("valid")).step(0.8).expect("finite");
    assert!(d.temperature == 0.6 && d.threshold.is_nan() && d.step_entropy.is_nan());
    assert_eq!(controller(Greedy).step(0.8).expect("finite").temperature, 0.0);
}

#[test]
fn impossible_parameters_are_named() {
    let message = |r: Result<StepAware>| r.expect_err("impossible").to_string();
    assert!(message(StepAware::new(1.0, 0.5, 0.3, 32, false)).contains("swapped"));
    assert!(message(StepAware::new(-0.1, 0.5, 0.3, 32, false)).starts_with("t_low = -0.1"));
    assert!(message(StepAware::new(0.1, f64::NAN, 0.3, 32, false)).starts_with("tau_0 = NaN"));
    assert!(message(StepAware::new(0.1, 0.5, f64::INFINITY, 32, false)).starts_with("t_high = inf"));
    assert!(message(StepAware::new(0.1, 0.5, 1.0, 0, false)).starts_with("window = 0"));
    assert!(message(StepAware::new(0.1, 0.5, 1.0, MAX_WINDOW + 1, false)).starts_with("window"));
    assert!(message(StepAware::preset("Qwen/Qwen3-9B")).contains("Qwen/Qwen3-8B"));
    assert!(Fixed::new(f64::NAN).is_err() && EntropyThreshold::new(0.2, -1.0, 1.0).is_err());
    for h in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(reset(4, false).step(h).expect_err("not an entropy").to_string().starts_with("entropy = "));
    }
}

#[test]
fn presets_are_the_published_ones() {
    for p in PRESETS {
        let policy = StepAware::preset(p.model).expect("published");
        assert_eq!((policy.t_low, policy.tau_0, policy.t_high, policy.window), (p.t_low, p.tau_0, 1.0, 32));
    }
    assert_eq!(StepAware::preset("Qwen/Qwen3-14B").expect("published").tau_0, 0.4863);
}

#[test]
fn every_policy_has_a_name_of_its_own_and_a_sentence() {
    for (i, entry) in POLICIES.iter().enumerate() {
        assert!(entry.summary.ends_with('.') && !entry.name.contains(' '));
        assert!(POLICIES[..i].iter().all(|other| other.name != entry.name));
    }
}
