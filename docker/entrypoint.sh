#!/bin/sh
# Fits whatever user and workspace the container was given, then becomes its command.
set -eu

[ -w "${HOME:-/}" ] || export HOME=/tmp

unfinished=.avs-copy-unfinished
if [ -w . ] && { [ -z "$(ls -A)" ] || [ -e "$unfinished" ]; }; then
    # An empty workspace gets the kit's own copy, from one container at a time, whole even if this one is killed.
    exec 8<.
    flock 8 || true
    if [ -z "$(ls -A)" ] || [ -e "$unfinished" ]; then
        touch "$unfinished"
        cp -R /opt/avs/. .
        rm "$unfinished"
    fi
    exec 8<&-
elif [ ! -w . ]; then
    owner=$(stat -c %u:%g .)
    echo "avs: user $(id -u):$(id -g) cannot write to $PWD, which belongs to $owner: add --user $owner;" \
        "or mount another folder (-v \"\$PWD\":/workspace) or add --tmpfs /workspace" >&2
    [ -n "$(ls -A)" ] || exit 1
elif [ ! -e dvc.yaml ]; then
    echo "avs: $PWD holds files, but not the kit: mount a clone of it, or an empty folder, which gets a copy" >&2
fi

if [ -w .dvc ]; then
    # Git's history is not in a copy of the kit.
    [ -e .git ] || [ -e .dvc/config.local ] || printf '[core]\n    no_scm = true\n' >.dvc/config.local
    # DVC's lock names processes by numbers that mean nothing in another container: what a killed container left
    # would block this one. Each container holds container.lock, so who gets it alone finds no other at work.
    mkdir -p .dvc/tmp
    exec 9>.dvc/tmp/container.lock
    if flock --nonblock 9; then rm -f .dvc/tmp/rwlock; fi
    flock --shared 9 || true # not on every network file system
fi

exec "$@"
