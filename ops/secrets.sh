#!/bin/sh
# Writes the secrets of docker-compose.yml, a file each, into the folder `secrets`. Files that exist stay as they are.
#
#   ops/secrets.sh
#
# A value is taken from the environment or from .env, if it is there; otherwise the bot's token and the model's key are
# asked for, and passwords are random. To change one later, see "Keys and passwords" in ops/RUNBOOK.md.
set -eu
cd "${SECRETS_ROOT:-$(dirname "$0")/..}"
umask 077
mkdir -p secrets

fail() { echo "$1" >&2; exit 1; }

given() { # the value of a variable in the environment or .env
    eval "value=\${$1:-}"
    [ -n "$value" ] || [ ! -e .env ] || value=$(sed -n "s/^$1=//p" .env | tail -n 1 | sed "s/^'\(.*\)'\$/\1/")
    printf %s "$value"
}

keep() { # write a secret's file; a container's user must be able to read it
    printf %s "$2" >"secrets/$1.new"
    chmod 644 "secrets/$1.new"
    mv "secrets/$1.new" "secrets/$1"
}

made() { # a password: its file, or a variable, or random
    [ -e "secrets/$1" ] && return
    value=$([ $# -lt 2 ] || given "$2")
    [ -n "$value" ] || value=$(od -A n -t x1 -N 24 /dev/urandom | tr -d ' \n')
    keep "$1" "$value"
}

asked() { # something that only a person knows
    [ -e "secrets/$1" ] && return
    value=$(given "$2")
    if [ -z "$value" ]; then
        [ -t 0 ] || fail "$2 is missing: put it into .env, or into the file secrets/$1"
        printf '%s (%s): ' "$2" "$3" >&2
        read -r value
        [ -n "$value" ] || fail "$2 is empty"
    fi
    keep "$1" "$value"
}

derived() { # an address or file that contains another secret: written anew, so that it follows the other
    keep "$1" "$2"
}

asked bot_token BOT_TOKEN "from @BotFather"
asked openai_api_key OPENAI_API_KEY "the key of the model's server"
made admin_password ADMIN_PASSWORD
made webhook_secret WEBHOOK_SECRET
made postgres_password POSTGRES_PASSWORD
made postgres_app_password
made rabbitmq_app_password
made rabbitmq_page_password

owner=$(cat secrets/postgres_password)
app=$(cat secrets/postgres_app_password)
derived migration_database_url "postgresql://horoscope:$owner@postgres:5432/horoscope"
derived database_url "postgresql://horoscope_app:$app@postgres:5432/horoscope"

app=$(cat secrets/rabbitmq_app_password)
page=$(cat secrets/rabbitmq_page_password)
derived rabbitmq_url "amqp://horoscope_app:$app@rabbitmq:5672/%2F"
derived rabbitmq_management_url "http://horoscope_page:$page@rabbitmq:15672"
derived rabbitmq_definitions '{
  "vhosts": [{"name": "/"}],
  "users": [
    {"name": "horoscope_app", "password": "'"$app"'", "tags": ""},
    {"name": "horoscope_page", "password": "'"$page"'", "tags": "management"}
  ],
  "permissions": [
    {"user": "horoscope_app", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
    {"user": "horoscope_page", "vhost": "/", "configure": "^$", "write": "^$", "read": "^$"}
  ]
}'
echo "The secrets are in the folder secrets. The password of the operators' page is in secrets/admin_password."
