//! A short deterministic run of the fuzz targets: seeds, mutated the same way each time.

use std::fs;
use std::path::Path;

use super::*;

/// Bytes at the boundaries of numbers, lengths, tags and text.
const TELLING: [u8; 16] = [
    0, 1, 2, 4, 8, 0x0a, 0x22, 0x2c, 0x5b, 0x7b, 0x7f, 0x80, 0xc3, 0xfd, 0xfe, 0xff,
];

/// Xorshift, which yields the same numbers on all machines.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let files = fs::read_dir(folder.join(target)).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Mutates an input as a fuzzer does, but keeps the choice of the decoder.
fn mutate(random: &mut Random, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let place = 1 + random.below(input.len() - 1);
        let end = (place + random.below(9)).min(input.len());
        match random.below(8) {
            0 => input[place] ^= 1 << random.below(8),
            1 => input[place] = TELLING[random.below(TELLING.len())],
            2 => input.insert(place, random.below(256) as u8),
            3 => drop(input.drain(place..end)),
            4 => input.truncate(place),
            5 => input.extend_from_within(place..end),
            6 => {
                let from = random.below(other.len());
                let to = (from + random.below(40)).min(other.len());
                drop(input.splice(place..end, other[from..to].iter().copied()));
            }
            _ => {
                let huge = [0xff; 9].into_iter().chain([random.below(3) as u8]);
                drop(input.splice(place..end, huge));
            }
        }
        if input.len() < 2 {
            return;
        }
    }
}

fn run(target: &str, iterations: usize, law: impl Fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "no seeds for {target}");
    seeds.iter().for_each(|seed| law(seed));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..iterations {
        let mut input = seeds[random.below(seeds.len())].clone();
        let other = random.below(seeds.len());
        mutate(&mut random, &mut input, &seeds[other]);
        law(&input);
    }
}

#[test]
fn json_obeys() {
    run("json", 2_000, json);
}

#[test]
fn csv_obeys() {
    run("csv", 3_000, csv);
}

#[test]
fn avro_obeys() {
    run("avro", 2_000, avro);
}

#[test]
fn protobuf_obeys() {
    run("protobuf", 1_000, protobuf);
}

#[test]
fn scalar_obeys() {
    run("scalar", 5_000, scalar);
}

#[test]
fn schemas_obey() {
    run("schemas", 3_000, schemas);
}

#[test]
fn answer_obeys() {
    run("answer", 3_000, answer);
}

#[test]
fn answers_obey() {
    run("answers", 20_000, answers);
}

#[test]
fn records_obey() {
    run("records", 3_000, records);
}

#[test]
fn texts_obey() {
    run("texts", 10_000, texts);
}
