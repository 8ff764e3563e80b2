use super::*;

#[test]
fn lists_follow_the_kernels_format() {
    for good in ["0", "0-2,7", "3,1", "0-31:2/4", "5-5", "4294967295"] {
        assert!(is_list(good), "{good}");
    }
    for bad in [
        "",
        ",",
        "0,",
        "2-1",
        "-1",
        "+1",
        "a",
        "0 1",
        "0-",
        "1:2",
        "0-3:",
        "0-3:3/2",
        "0-3:0",
        "4294967296",
        "0\n1",
    ] {
        assert!(!is_list(bad), "{bad:?}");
    }
}
