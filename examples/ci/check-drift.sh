#!/bin/sh
# Ask Drift Watch for the newest known verdict of a model, and fail a pipeline if it is drift or too old.
# docs/ci.md describes the use. Needs curl 7.55 or newer, and awk. Environment:
#
#   DRIFT_WATCH_URL            the address of the service, such as https://drift.example.org
#   DRIFT_WATCH_TOKEN          an access token that may read the experiment; empty if the experiment is public
#   DRIFT_WATCH_EXPERIMENT     the id of the experiment
#   DRIFT_WATCH_MODEL          the name of the model
#   DRIFT_WATCH_MAX_AGE_HOURS  how old the verdict may be, in hours since the data was looked at
#
# DRIFT_WATCH_MODEL_VERSION, DRIFT_WATCH_DETECTOR, DRIFT_WATCH_ENVIRONMENT and DRIFT_WATCH_FEATURE narrow the runs.
#
# Exits with 0 for no drift, 1 for drift or a verdict that is too old, 2 if Drift Watch could not be asked,
# 3 if no run has a known verdict.
set -eu
# Every awk then takes a text as bytes.
export LC_ALL=C

PASS=0 FAIL=1 NOT_ASKED=2 UNKNOWN=3
# Seconds. Retries end after RETRY_SECONDS, and wait as long as the header Retry-After says.
CONNECT_SECONDS=10 ANSWER_SECONDS=30 RETRY_SECONDS=60

# An exit that is not foreseen below, such as of a missing command, must neither pass nor look like drift.
outcome=$NOT_ASKED
directory=
trap 'set +e; rm -rf "$directory"; exit "$outcome"' EXIT
trap 'exit' HUP INT TERM

finish() {
  outcome=$1
  shift
  [ "$outcome" = "$PASS" ] || exec >&2
  printf '%s\n' "$@"
  exit
}

# Print the conditions on the runs, as the inside of a JSON object.
conditions() {
  awk 'BEGIN {
    for (code = 1; code < 32; code++) escaped[sprintf("%c", code)] = sprintf("\\u%04x", code)
    escaped["\""] = "\\\""
    escaped["\\"] = "\\\\"
    count = split("model model_version detector environment feature", names, " ")
    for (i = 1; i <= count; i++) {
      value = ENVIRON["DRIFT_WATCH_" toupper(names[i])]
      if (value == "") continue
      text = ""
      for (k = 1; k <= length(value); k++) {
        character = substr(value, k, 1)
        text = text (character in escaped ? escaped[character] : character)
      }
      printf "%s\"%s\": \"%s\"", separator, names[i], text
      separator = ", "
    }
  }'
}

# Print the text of a name in the JSON of the response, at a depth: 1 in an object, 2 in an object of a list. Deeper
# texts are left out, because the parameters of a run may hold the same name. A double quote ends each record of awk,
# so that records are in turn between texts and inside them.
text_of() {
  awk -v RS='"' -v wanted="$1" -v at="$2" '
    inside {
      # A quote after an odd number of backslashes belongs to the text.
      inside = match($0, /\\+$/) && RLENGTH % 2
      if (depth == at) text = text $0 (inside ? RS : "")
      if (is_wanted && !inside) {
        # JSON has no raw control character in a text. They could move the cursor, or be a command to the pipeline.
        gsub(/[\001-\037\177]/, " ", text)
        print text
        exit
      }
      next
    }
    {
      gsub(/[ \t\r\n]/, "")
      is_wanted = $0 == ":" && text == wanted
      depth += gsub(/[[{]/, "&") - gsub(/[]}]/, "&")
      text = ""
      inside = 1
    }' "$directory/body"
}

# Print the seconds from a time, as Drift Watch writes it, to the time of the response, or nothing without that time.
# The clock of this machine does not count, and `date` reads times in another way on each system.
seconds_since() {
  awk -v time="$1" '
    function seconds(year, month, day, clock) {
      split(clock, part, ":")
      if (month < 3) { year--; month += 12 }
      days = 365 * year + int(year / 4) - int(year / 100) + int(year / 400)
      days += int((153 * month - 457) / 5) + day - 719469
      return 86400 * days + 3600 * part[1] + 60 * part[2] + int(part[3])
    }
    # Date: Sat, 28 Nov 2026 22:39:04 GMT. A proxy, or an earlier attempt, may have sent another response before.
    tolower($1) == "date:" {
      month = (index("JanFebMarAprMayJunJulAugSepOctNovDec", $4) + 2) / 3
      now = seconds($5, month, $3, $6)
    }
    END {
      if (!now || time !~ /^[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9.]+Z$/) exit
      split(time, at, /[-TZ]/)
      printf "%d\n", now - seconds(at[1], at[2], at[3], at[4])
    }' "$directory/headers"
}

refuse() {
  finish "$NOT_ASKED" "Not asked: DRIFT_WATCH_$1."
}

for name in URL EXPERIMENT MODEL MAX_AGE_HOURS; do
  eval "value=\${DRIFT_WATCH_$name:-}"
  [ -n "$value" ] || refuse "$name is not set"
done
case $DRIFT_WATCH_URL in
  http://* | https://*) ;;
  *) refuse "URL does not begin with https:// or http://" ;;
esac
case $DRIFT_WATCH_EXPERIMENT in
  *[!0-9A-Fa-f-]*) refuse "EXPERIMENT is not an id, which is the end of the address of the experiment's page" ;;
esac
case $DRIFT_WATCH_MAX_AGE_HOURS in
  0* | *[!0-9]* | ????????*) refuse "MAX_AGE_HOURS is not a whole number from 1 to 9999999" ;;
esac
case ${DRIFT_WATCH_TOKEN:-} in
  *[!A-Za-z0-9._~+/=-]*) refuse "TOKEN holds a character that no token has, such as a space or the end of a line" ;;
esac
for command in curl awk mktemp; do
  command -v "$command" >/dev/null || finish "$NOT_ASKED" "Not asked: there is no $command here. Install it."
done

directory=$(mktemp -d)
runs=$(conditions)
page=${DRIFT_WATCH_URL%/}/experiments/$DRIFT_WATCH_EXPERIMENT
search=${DRIFT_WATCH_URL%/}/api/v1/experiment/$DRIFT_WATCH_EXPERIMENT/drift/search

# The token is read from standard input, because arguments are visible to other users of the machine.
status=$(
  curl --silent --show-error --globoff --connect-timeout "$CONNECT_SECONDS" --max-time "$ANSWER_SECONDS" \
    --retry 5 --retry-connrefused --retry-max-time "$RETRY_SECONDS" \
    --header @- --header 'Content-Type: application/json' \
    --data-binary "{\"verdict\": {\"\$in\": [\"drift\", \"no_drift\"]}, $runs}" \
    --dump-header "$directory/headers" --output "$directory/body" --write-out '%{http_code}' \
    "$search?sort_by=observed_at&order_by=desc&page_size=1" <<HEADERS
${DRIFT_WATCH_TOKEN:+Authorization: Bearer $DRIFT_WATCH_TOKEN}
HEADERS
) || finish "$NOT_ASKED" "Not asked: no response from $search (curl gives the reason above)." \
  "Check DRIFT_WATCH_URL, and that the service runs and this machine reaches it."

if [ "$status" != 200 ]; then
  token="the token in DRIFT_WATCH_TOKEN"
  [ -n "${DRIFT_WATCH_TOKEN:-}" ] || token="no token, because DRIFT_WATCH_TOKEN is empty"
  message=$(text_of message 1)
  finish "$NOT_ASKED" "Not asked: $search responded with $status to a request with $token." \
    "${message:-The response is not of Drift Watch. Check DRIFT_WATCH_URL: does it lack the s of https?}"
fi
if [ "$(tr -d '[:space:]' <"$directory/body")" = '[]' ]; then
  finish "$UNKNOWN" "Unknown: the experiment has no completed run with $runs. Running and failed runs have no verdict." \
    "Compare the names with those on $page, or run the detector."
fi

run=$(text_of id 2)
verdict=$(text_of verdict 2)
observed=$(text_of observed_at 2)
age=$(seconds_since "$observed")
if [ -z "$run" ] || [ -z "$verdict" ] || [ -z "$age" ]; then
  finish "$NOT_ASKED" "Not asked: $search responded, but not with a run of Drift Watch. Check DRIFT_WATCH_URL."
fi

[ "$age" -ge 0 ] || age=0
ago="$((age / 3600)) h $((age % 3600 / 60)) min ago"
found="the newest known verdict with $runs is of $observed, $ago"
link="The run: $page/runs/$run"
case $verdict in
  no_drift)
    if [ "$age" -gt $((DRIFT_WATCH_MAX_AGE_HOURS * 3600)) ]; then
      finish "$FAIL" "Too old: $found; at most $DRIFT_WATCH_MAX_AGE_HOURS h are allowed." "$link" \
        "Run the detector again, and find out why it has not reported since."
    fi
    finish "$PASS" "No drift: $found." "$link"
    ;;
  drift)
    finish "$FAIL" "Drift: $found." "$link" \
      "Look at the run, and mend the model or its data. The check passes after a newer run that finds no drift."
    ;;
  *) finish "$NOT_ASKED" "Not asked: this script does not know the verdict $verdict of $page/runs/$run." ;;
esac
