// SPDX-License-Identifier: Apache-2.0

//! heapsrs: a Rust program as heaps.h says.
//!
//!     heapsrs registry|calm SECONDS BYTES_PER_SECOND
//!
//! "registry": register keeps a record of each user in a hash map. "calm": it does not. The
//! innocents: parse_request, whose strings go with it, cache_page, a queue of 3,000 pages, and
//! new_record, which all of them use.

use std::arch::asm;
use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::time::{Duration, Instant};

/// What the compiler knows nothing about any more: std has it since 1.66 only.
#[inline(always)]
fn black_box<T>(value: T) -> T {
    unsafe { asm!("/* {0} */", in(reg) &value) };
    value
}

struct Record {
    name: String,
    body: Box<[u8]>,
}

fn mix(n: u32) -> u32 {
    let mut n = n.wrapping_mul(2654435761);
    n ^= n >> 15;
    n = n.wrapping_mul(2246822519);
    n ^ n >> 13
}

impl Record {
    fn size(&self) -> usize {
        self.name.len() + self.body.len() + std::mem::size_of::<Record>()
    }
}

#[inline(never)]
fn new_record(n: u32, len: usize) -> Box<Record> {
    let record = Box::new(Record {
        name: format!("record {n}"),
        body: vec![n as u8; len].into_boxed_slice(),
    });
    black_box(record)
}

#[inline(never)]
fn register(users: &mut HashMap<u32, Box<Record>>, n: u32) -> usize {
    let record = new_record(n, 80 + (mix(n) % 160) as usize);
    let size = record.size() + 16;
    users.insert(n, record);
    size
}

#[inline(never)]
fn parse_request(n: u32) -> usize {
    let fields: Vec<Box<Record>> = (0..10)
        .map(|i| new_record(n, 40 + (mix(n + i) % 400) as usize))
        .collect();
    black_box(&fields).iter().map(|f| f.size()).sum()
}

#[inline(never)]
fn cache_page(pages: &mut VecDeque<Box<Record>>, n: u32) -> usize {
    if pages.len() == 3000 {
        pages.pop_front();
    }
    pages.push_back(new_record(n, 100 + (mix(n) % 300) as usize));
    250
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let numbers = (
        args.get(2).and_then(|a| a.parse::<f64>().ok()),
        args.get(3).and_then(|a| a.parse::<f64>().ok()),
    );
    let (leak, seconds, rate) = match (args.get(1).map(String::as_str), numbers) {
        (Some(mode @ ("registry" | "calm")), (Some(s), Some(r))) => (mode == "registry", s, r),
        _ => {
            eprintln!("usage: heapsrs registry|calm SECONDS BYTES_PER_SECOND");
            std::process::exit(2)
        }
    };
    const TIMES: f64 = 50.0;
    const MOST: usize = 1 << 30;
    let (mut users, mut pages) = (HashMap::new(), VecDeque::new());
    for n in 0..3000 {
        cache_page(&mut pages, n);
    }
    println!("ready");
    std::io::stdout().flush().expect("write stdout");

    let began = Instant::now();
    let (mut last, mut keep_due, mut churn_due) = (began, 0.0, 0.0);
    let (mut kept, mut made, mut requests) = (0, 0, 0);
    while began.elapsed().as_secs_f64() < seconds {
        // What was not done in time is made up for at most 100 ms.
        let passed = last.elapsed().as_secs_f64().min(0.1);
        last = Instant::now();
        if leak && kept < MOST {
            keep_due += passed * rate;
        }
        churn_due += passed * rate * TIMES;
        while keep_due > 0.0 || churn_due > 0.0 {
            if churn_due > 0.0 {
                churn_due -= (parse_request(requests) + cache_page(&mut pages, requests)) as f64;
                requests = requests.wrapping_add(1);
            }
            if keep_due > 0.0 && keep_due * TIMES >= churn_due {
                let size = register(&mut users, made);
                kept += size;
                keep_due -= size as f64;
                made += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
