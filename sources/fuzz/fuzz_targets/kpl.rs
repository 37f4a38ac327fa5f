//! Opens any bytes as an aggregate of the Kinesis Producer Library. With a digest that fits, so that the message is read.
#![no_main]

#[path = "../../../engine/aws/src/kpl.rs"]
#[allow(dead_code)]
mod kpl;

use libfuzzer_sys::fuzz_target;
use md5::{Digest, Md5};

fuzz_target!(|bytes: &[u8]| {
    let _ = kpl::open(bytes);
    let sealed = [kpl::MAGIC.as_slice(), bytes, Md5::digest(bytes).as_slice()].concat();
    if let Ok(opened) = kpl::open(&sealed) {
        // What was opened is made and opened again to the same.
        assert_eq!(kpl::open(&kpl::aggregate(&opened.records)), Ok(opened));
    }
});
