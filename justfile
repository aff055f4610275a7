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
    cargo build --release -p app

# A record of real nodes under faults: `just history 30`, `just history 30 4711` to replay
history minutes="1" seed="":
    HISTORY_SECONDS=$(({{minutes}} * 60)) {{ if seed == "" { "" } else { "HISTORY_SEED=" + seed } }} \
        cargo test --release --workspace --test history no_answer -- --nocapture
