#!/usr/bin/env bash
# Registers each FOLDER/NAME.json as the connector NAME, and waits until it runs and every table of it has its topic.
# Can be run again: a connector that is there takes the file's settings.
#
#   register-connectors.sh CONNECT_URL FOLDER
set -euo pipefail
connect=$1
folder=$2

setting() { # NAME FILE: the value of a setting
    sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}$/\1/p" "$2"
}

for file in "$folder"/*.json; do
    name=$(basename "$file" .json)
    # Connect answers 409 while its workers rebalance.
    curl --silent --show-error --fail-with-body --output /dev/stderr --retry 30 --retry-delay 1 --retry-all-errors \
        --request PUT --header 'Content-Type: application/json' --data "@$file" "$connect/connectors/$name/config"
    echo "registered $name"
done

for file in "$folder"/*.json; do
    name=$(basename "$file" .json)
    prefix=$(setting topic.prefix "$file")
    wanted=()
    for table in $(setting table.include.list "$file" | tr , ' '); do
        wanted+=("$prefix.$table")
    done
    deadline=$((SECONDS + 180))
    while true; do
        status=$(curl --silent --show-error "$connect/connectors/$name/status" || true)
        if [[ $status == *'"FAILED"'* ]]; then
            echo "the connector $name failed: $status" >&2
            exit 1
        fi
        missing=()
        topics=$(curl --silent --show-error "$connect/connectors/$name/topics" || true)
        for topic in "${wanted[@]}"; do
            [[ $topics == *"\"$topic\""* ]] || missing+=("$topic")
        done
        if [[ $status == *'"tasks":[{'*'"RUNNING"'* && ${#missing[@]} -eq 0 ]]; then
            break
        fi
        if ((SECONDS > deadline)); then
            echo "the connector $name does not run after three minutes, or wrote no record to ${missing[*]:-a topic}:" \
                "$status" >&2
            exit 1
        fi
        sleep 1
    done
    echo "running $name: ${wanted[*]}"
done
