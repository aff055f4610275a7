# Everything: formatting, lints, tests
test:
    scripts/test.sh

# Serve, embedded
run:
    cargo run

# Format and let clippy mend what it can
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# One file that needs no other: target/release/sessiond
release:
    cargo build --release -p sessiond

# Beside limits and peers: bench/README.md
bench *arguments:
    bench/bench.sh {{arguments}}

# A record of real nodes under faults: just history --minutes 30 --seed 4711
history *arguments:
    scripts/history.sh {{arguments}}

# Every injected bug has to be found by the history: five minutes, and compiling for release
injected-bugs *arguments:
    scripts/history.sh --bugs all {{arguments}}

# Every small change to the protocol of revocations has to be noticed by a test: about an hour
mutants *arguments:
    scripts/mutants.sh {{arguments}}

# Every fuzz target for five minutes: needs nightly Rust and cargo-fuzz
fuzz *arguments:
    scripts/fuzz.sh {{arguments}}
