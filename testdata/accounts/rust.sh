#!/bin/sh
# needs: rustc
cat >main.rs <<'R'
use std::{collections::HashMap, thread, time::Duration};

fn main() {
	let mut kept: HashMap<usize, Vec<u8>> = HashMap::new();
	for i in 0usize.. {
		kept.insert(i % 5000, vec![i as u8; 100 + i * 37 % 20000]);
		if i % 20000 == 0 {
			kept.clear();
		}
		if i % 20 == 0 {
			thread::sleep(Duration::from_millis(2));
		}
	}
}
R
rustc -O -o churn main.rs && exec ./churn
