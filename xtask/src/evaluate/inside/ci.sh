#!/bin/bash
# A build server's job, a few times: check out, build with make and gcc, build and test with cargo, throw away.
# Arguments: seed, how often, and the folder to work in, where it is always the same.
set -eu
RANDOM=$1
rounds=$2
words=(alpha bravo carol delta early front green house index joker)
word() { echo "${words[RANDOM % ${#words[@]}]}"; }
cd /srv/git
if [ ! -d app.git ]; then
    git init -q --bare app.git
fi
for _ in $(seq "$rounds"); do
    work=${3:-$(mktemp -d /srv/ci/job.XXXXXX)}
    mkdir -p "$work"
    git clone -q /srv/git/app.git "$work/app" 2> /dev/null
    cd "$work/app"
    for _ in $(seq $((2 + RANDOM % 4))); do
        name=$(word)
        mkdir -p src
        printf 'int %s_%d(int a) { return a + %d; }\n' "$name" "$RANDOM" "$RANDOM" > "src/$name.c"
        git add -A
        git commit -q -m "change $name"
    done
    git checkout -q -b "topic-$RANDOM"
    echo "$(word) $RANDOM" >> NOTES
    git add NOTES
    git commit -q -m notes
    git checkout -q main
    git merge -q --no-edit -
    git push -q origin main
    { echo 'int main(void) { return 0; }'; } > main.c
    printf 'app: main.o $(patsubst %%.c,%%.o,$(wildcard src/*.c))\n\t$(CC) -o $@ $^\n' > Makefile
    make -s CFLAGS=-O1
    ./app
    crate=$(word)
    PATH=/opt/rust/bin:$PATH
    export CARGO_HOME="$work/cargo"
    cargo new -q --vcs none --lib "$work/$crate"
    printf '/// Adds.\npub fn add(a: u64) -> u64 { a + %d }\n#[test]\nfn adds() { assert!(add(1) > 0); }\n' "$RANDOM" \
        > "$work/$crate/src/lib.rs"
    (cd "$work/$crate" && cargo build -q --offline && cargo test -q --offline) > /dev/null
    cd /srv/ci
    rm -rf "$work"
done
[ $((RANDOM % 2)) = 0 ] || git -C /srv/git/app.git gc -q
