#!/bin/sh
# demo.sh PART - show the main job, each step beside the command that a user would type.
#
#   store   a C program's hash table, killed in the middle of a change and reopened; needs no engine
#   vm      QuickJS and SQLite: steps that outlive processes, the past, branches, the log
#
# VARVE_BUILD is the build folder. Everything happens in a temporary folder, which goes at the end.
set -eu
part=${1:?store or vm}
build=$(realpath "${VARVE_BUILD:-build}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM # not every shell runs the one above then
PATH=$build:$PATH
export PATH
unset VARVE_STORE VARVE_BRANCH VARVE_TIME VARVE_SEED
cd "$folder"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1m') dim=$(printf '\033[2m') plain=$(printf '\033[0m') blue=$(printf '\033[34m')
else
    bold='' dim='' plain='' blue=''
fi
title() {
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
}
# Show a command as it would be typed, then run it. Its talk (stderr) is shown dim.
try() {
    printf '%s$ %s%s\n' "$blue" "$1" "$plain"
    code=0
    { sh -c "$1" 2>"$folder/talk"; } || code=$?
    sed "s/^/$dim/; s/\$/$plain/" "$folder/talk"
    if [ "$code" != "${2:-0}" ]; then
        echo "demo: expected exit code ${2:-0}, got $code" >&2
        exit 1
    fi
}
# What the last command must have shown.
expect() {
    got=$(sh -c "$1" 2>/dev/null) || true
    if [ "$got" != "$2" ]; then
        echo "demo: $1: expected $2, got $got" >&2
        exit 1
    fi
}

if [ "$part" = store ]; then
    title 'A C program whose hash table survives (no WebAssembly, no file format)'
    try 'hashtable bank fill 10000'
    try 'hashtable bank put alice 100'
    try 'hashtable bank crash   # changes every entry, then SIGKILL' 137
    try 'hashtable bank get alice'
    try 'hashtable bank get key9999'
    try 'varve --store bank fsck'
    expect 'hashtable bank get alice' 100
    expect 'hashtable bank get key9999' value9999
    expect 'hashtable bank count' 10001
    exit 0
fi

title 'JavaScript: unmodified QuickJS, its whole heap durable'
try 'varve init bank'
cd bank
try 'varve js --new'
try "varve js 'let n = 40; globalThis.next = () => ++n; next()'"
try "varve js 'next()'                   # a new process: the closure is still there"
try "varve js 'for (;;) next()' & sleep 1; kill -9 \$!; wait \$! || true"
try "varve js 'next()'                   # the unfinished step never happened"
try "varve js --at HEAD~2 'next()'       # ask the past; it does not change"
try 'varve branch what-if HEAD~1'
try "varve js -b what-if 'next() + \" elsewhere\"'"
try "varve js 'next()'                   # main goes on by itself"
expect "varve js --at HEAD 'n'" 44
expect "varve js --at what-if 'n'" 43

title 'SQL: unmodified SQLite, one commit per step'
try 'varve sql --new'
try "varve sql 'create table account(id integer primary key, owner text, balance integer)'"
seq 1000 | sed "s/.*/insert into account(owner, balance) values('user&', & * 10);/" >../rows.sql
try 'varve sql -f ../rows.sql -m "1000 rows"'
try 'varve show'
try "varve sql 'update account set balance = balance + 1 where id <= 5'"
endless="(with recursive n(x) as (values(1) union all select x + 1 from n) select count(*) from n)"
try "varve sql 'update account set balance = $endless' & sleep 0.5; kill -9 \$!; wait \$! || true"
try "varve sql 'select sum(balance) from account'               # the killed update never happened"
try "varve sql --at HEAD~1 'select sum(balance) from account'   # before the update"
try 'varve branch audit HEAD~1'
try "varve sql -b audit 'delete from account where id > 10'"
try "varve sql -b audit 'select count(*) from account'"
try 'varve branch -d audit'
try "varve sql 'select count(*) from account'"
expect "varve sql 'select count(*) from account'" 1000
expect "varve sql 'select sum(balance) from account'" 5005005
expect "varve sql --at HEAD~1 'select sum(balance) from account'" 5005000

title 'What happened'
try 'varve log -n 6'
try 'varve diff HEAD~1 HEAD'
try 'varve show HEAD'
try 'varve fsck'
