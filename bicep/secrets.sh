#!/bin/bash
# Makes the secrets that the key vaults lack, and rotates those they have. Prints names, never values.
#
#   bicep/secrets.sh AZURE_ENV                  make what is missing
#   bicep/secrets.sh --rotate NAME AZURE_ENV    put a new value in front of the old one, which goes on being taken
#   bicep/secrets.sh --retire NAME AZURE_ENV    have the old one taken no more
#   bicep/secrets.sh --give NAME AZURE_ENV      put a line of standard input, for those that somebody else makes
#
# AZURE_ENV is a file such as deploy/overlays/dev/azure/azure.env. Needs az, signed in as an operator, and openssl.
set -euo pipefail
umask 077

usage() {
  sed -n '4,7s/^# *//p' "$0" >&2
  exit 2
}

action=make name=
case ${1-} in
--rotate | --retire | --give)
  action=${1#--} name=${2-}
  shift 2 || usage
  ;;
esac
if [[ $# != 1 || ! -r $1 ]]; then usage; fi

# setting KEY prints the value of a line of AZURE_ENV.
env=$1
setting() {
  local value
  value=$(sed -n "s/^$1=//p" "$env")
  if [[ -z $value ]]; then
    echo "$env has no $1" >&2
    exit 1
  fi
  printf '%s' "$value"
}
services=$(setting KEY_VAULT_SERVICES)
schema=$(setting KEY_VAULT_SCHEMA)
monitoring=$(setting KEY_VAULT_MONITORING)
mysqlHost=$(setting MYSQL_HOST)
redisHost=$(setting REDIS_HOST)
certificateURI=$(setting TLS_CERT_URI)
readonly given=(slack-url smtp-password deadman-url grafana-client-secret)

# Values are in files of a directory nobody else can read, and in pipes: arguments can be read by everybody on the machine.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# random prints a secret of 48 bytes, 64 letters, digits, - and _.
random() { openssl rand -base64 48 | tr -d '\n' | tr '+/' '-_'; }

# get VAULT NAME prints a secret.
get() { az keyvault secret show --vault-name "$1" --name "$2" --query value --output tsv; }

# put VAULT NAME makes standard input the value of a secret.
put() {
  cat >"$dir/value"
  az keyvault secret set --vault-name "$1" --name "$2" --file "$dir/value" --encoding utf-8 --output none
  echo "$1/$2"
}

# missing VAULT NAME COMMAND... makes a secret of what the command prints, unless it is there.
missing() {
  local value
  if grep -qxF "$2" <<<"${names[$1]}"; then return; fi
  value=$("${@:3}")
  printf '%s' "$value" | put "$1" "$2"
}

# databaseURL USER prints the URL that a user of MySQL connects by, with the first of his passwords.
databaseURL() {
  local passwords
  passwords=$(get "$schema" "mysql-$1-password")
  printf 'mysql://%s:%s@%s:3306/liveops' "$1" "${passwords%%,*}" "$mysqlHost"
}

# redisID prints the resource id of the cache.
redisID() {
  local id
  id=$(az redis list --query "[?hostName=='$redisHost'].id" --output tsv)
  if [[ -z $id ]]; then
    echo "there is no $redisHost in this subscription" >&2
    exit 1
  fi
  printf '%s' "$id"
}

# redisURL primaryKey|secondaryKey prints the URL of the cache with one of its two keys.
redisURL() {
  local id key
  id=$(redisID)
  key=$(az redis list-keys --ids "$id" --query "$1" --output tsv)
  key=${key//+/%2B} key=${key//\//%2F} key=${key//=/%3D}
  printf 'rediss://:%s@%s:6380/0' "$key" "$redisHost"
}

# redisPasswords prints what redis_exporter reads: the key that the URL holds.
redisPasswords() {
  local url key
  url=$(get "$services" redis-url)
  key=${url#rediss://:} key=${key%@*}
  key=${key//\%2B/+} key=${key//\%2F//} key=${key//\%3D/=}
  printf '{"rediss://%s:6380": "%s"}' "$redisHost" "$key"
}

# renewOtherRedisKey makes the key anew that the URL does not hold, and prints which it is.
renewOtherRedisKey() {
  local other=Primary id url primary
  id=$(redisID)
  url=$(get "$services" redis-url)
  primary=$(redisURL primaryKey)
  if [[ $url == "$primary" ]]; then other=Secondary; fi
  az redis regenerate-keys --ids "$id" --key-type "$other" --output none
  echo "$other"
}

# authority makes the CA of MySQL's certificate. The certificate is written last: as long as it is missing, so is the CA.
authority() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj '/CN=LiveOps MySQL CA' \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign \
    -keyout "$dir/ca.key" -out "$dir/ca.pem" 2>/dev/null
  put "$schema" db-ca-key <"$dir/ca.key"
  put "$schema" db-ca <"$dir/ca.pem"
}

# certificate makes MySQL's key and certificate, which is written last too.
certificate() {
  get "$schema" db-ca-key >"$dir/ca.key"
  get "$schema" db-ca >"$dir/ca.pem"
  cat >"$dir/extensions" <<EOF
subjectAltName = DNS:$mysqlHost
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
EOF
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=MySQL \
    -keyout "$dir/server.key" -out "$dir/server.csr" 2>/dev/null
  openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -set_serial "0x$(openssl rand -hex 16)" \
    -days 397 -extfile "$dir/extensions" -out "$dir/server.pem" 2>/dev/null
  put "$schema" mysql-tls-key <"$dir/server.key"
  put "$schema" mysql-tls-cert <"$dir/server.pem"
}

# ingressCertificate has the vault make a self-signed certificate, so that the Ingress starts.
ingressCertificate() {
  local vault=${certificateURI#https://} certificate=${certificateURI##*/} there
  vault=${vault%%.*}
  there=$(az keyvault certificate list --vault-name "$vault" --query '[].name' --output tsv)
  if grep -qxF "$certificate" <<<"$there"; then return; fi
  cat >"$dir/policy.json" <<'EOF'
{
  "issuerParameters": {"name": "Self"},
  "keyProperties": {"exportable": true, "keyType": "RSA", "keySize": 2048, "reuseKey": false},
  "secretProperties": {"contentType": "application/x-pem-file"},
  "x509CertificateProperties": {"subject": "CN=liveops", "validityInMonths": 12, "keyUsage": ["digitalSignature", "keyEncipherment"], "ekus": ["1.3.6.1.5.5.7.3.1"]}
}
EOF
  az keyvault certificate create --vault-name "$vault" --name "$certificate" --policy "@$dir/policy.json" --output none
  echo "$vault/$certificate (self-signed: no client trusts it; import your domain's with az keyvault certificate import)"
}

# make makes what is missing. A vault that cannot be listed ends the run, so that nothing is made twice.
make() {
  local vault name
  declare -gA names
  for vault in "$services" "$schema" "$monitoring"; do
    names[$vault]=$(az keyvault secret list --vault-name "$vault" --query '[].name' --output tsv)
  done
  for name in hmac-secret session-secret receipt-secret archive-secret cursor-secret; do missing "$services" "$name" random; done
  for name in mysql-services-password mysql-schema-password mysql-exporter-password; do missing "$schema" "$name" random; done
  missing "$services" hmac-keys echo '[]'
  missing "$services" db-url databaseURL services
  missing "$schema" db-url databaseURL schema
  missing "$services" redis-url redisURL primaryKey
  missing "$monitoring" redis-passwords redisPasswords
  if ! grep -qxF db-ca <<<"${names[$schema]}"; then authority; fi
  missing "$services" db-ca get "$schema" db-ca
  if ! grep -qxF mysql-tls-cert <<<"${names[$schema]}"; then certificate; fi
  ingressCertificate
  for name in "${given[@]}"; do
    if ! grep -qxF "$name" <<<"${names[$monitoring]}"; then echo "$monitoring/$name is missing: $0 --give $name $env" >&2; fi
  done
}

# give takes a secret that its issuer made: Slack, the mail server, the dead man's switch, Entra ID.
give() {
  local value=
  if [[ " ${given[*]} " != *" $name "* ]]; then
    echo "$name is not given but made" >&2
    exit 1
  fi
  IFS= read -r -s -p "$name: " value || true # a last line may have no end
  if [[ -z $value ]]; then
    echo "$name is empty" >&2
    exit 1
  fi
  printf '%s' "$value" | put "$monitoring" "$name"
}

# prepend VAULT NAME puts a new value in front of the list that a secret is.
prepend() {
  local list value
  list=$(get "$1" "$2")
  value=$(random)
  printf '%s,%s' "$value" "$list" | put "$1" "$2"
}

# keepFirst VAULT NAME drops all but the first value of the list that a secret is.
keepFirst() {
  local list
  list=$(get "$1" "$2")
  printf '%s' "${list%%,*}" | put "$1" "$2"
}

# single VAULT NAME ends the run when a rotation of a secret is not over: no more than two of its values are taken.
single() {
  local list
  list=$(get "$1" "$2")
  if [[ $list == *,* ]]; then
    echo "$2 has an old value still: retire it first" >&2
    exit 1
  fi
}

rotate() {
  local user vault=$schema url other
  case $name in
  hmac-secret | session-secret)
    single "$services" "$name"
    prepend "$services" "$name"
    ;;
  receipt-secret | archive-secret) prepend "$services" "$name" ;; # old ones go on verifying for as long as they are kept
  cursor-secret) random | put "$services" "$name" ;;
  mysql-services-password | mysql-schema-password)
    user=${name#mysql-} user=${user%-password}
    if [[ $user == services ]]; then vault=$services; fi
    url=$(get "$vault" db-url)
    if [[ $url == "$(databaseURL "$user")" ]]; then # otherwise a rotation was cut off here
      single "$schema" "$name"
      prepend "$schema" "$name"
    fi
    databaseURL "$user" | put "$vault" db-url
    ;;
  mysql-exporter-password) random | put "$schema" "$name" ;;
  mysql-tls-cert) certificate ;;
  redis-url)
    other=$(renewOtherRedisKey)
    redisURL "${other,}Key" | put "$services" redis-url
    redisPasswords | put "$monitoring" redis-passwords
    ;;
  *)
    echo "$name cannot be rotated" >&2
    exit 1
    ;;
  esac
}

retire() {
  case $name in
  hmac-secret | session-secret | receipt-secret | archive-secret) keepFirst "$services" "$name" ;;
  mysql-services-password | mysql-schema-password) keepFirst "$schema" "$name" ;;
  redis-url) renewOtherRedisKey >/dev/null ;;
  *)
    echo "$name has no old value to retire" >&2
    exit 1
    ;;
  esac
}

"$action"
