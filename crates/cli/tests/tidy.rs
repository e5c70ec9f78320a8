//! The workspace keeps the house rules.

#[test]
fn the_workspace_is_tidy() {
    let findings = xtask::tidy::check(&xtask::root().unwrap());
    assert!(findings.is_empty(), "{}", xtask::tidy::report(&findings));
}
