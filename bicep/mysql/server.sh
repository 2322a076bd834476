#!/bin/bash
# MySQL's VM: `setup` makes it what it should be, every minute, since the secrets come after the VM and are rotated; `backup`
# writes a dump to the storage account, every night. Both may be cut off anywhere and repeated.
# The deployment puts the settings in front, see modules/mysql-vm.bicep.
set -euo pipefail
: "${VAULT:?}" "${BACKUPS:?}" "${ADDRESS:?}" "${MAX_CONNECTIONS:?}" "${LOKI_URL:?}" "${ALLOY:?}"
umask 077

readonly conf=/etc/mysql/mysql.conf.d/zz-liveops.cnf tls=/etc/mysql/tls exporter=/etc/liveops/exporter.cnf
readonly exporterArgs=/etc/default/prometheus-mysqld-exporter marks=/var/lib/liveops
readonly metrics=/var/lib/prometheus/node-exporter # node_exporter tells what is in the files *.prom
readonly alloyVersion=1.15.1-1 grafanaFingerprint=B53AE77BADB630A683046005963FA27710458545

# Secrets reach other programs by pipe: arguments can be read by everybody on the machine.

# token RESOURCE prints an access token of the VM's identity.
token() {
  curl -fsS --retry 3 -H Metadata:true \
    "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=$1" | jq -er .access_token
}

# as TOKEN ARG... is curl with an access token.
as() {
  curl -fsS --retry 3 --config <(printf 'header = "Authorization: Bearer %s"\n' "$1") "${@:2}"
}

# put FILE MODE GROUP makes standard input the content of a file.
put() {
  local new
  new=$(mktemp "$1.XXXXXX")
  cat >"$new"
  chgrp "$3" "$new"
  chmod "$2" "$new"
  mv "$new" "$1"
}

# metric NAME VALUE has node_exporter tell a number.
metric() {
  printf '%s %s\n' "$1" "$2" | put "$metrics/$1.prom" 0644 root
}

# once NAME FILE COMMAND... runs a command unless it succeeded with this content of the file before.
once() {
  local now
  now=$(sha256sum <"$2")
  if [[ -e $marks/$1 && $now == "$(<"$marks/$1")" ]]; then return; fi
  "${@:3}"
  printf '%s\n' "$now" >"$marks/$1"
}

# accepted OPTIONS... says whether MySQL takes a password; any other failure ends the run.
accepted() {
  local answer
  if answer=$(mysql --defaults-file=<(printf '[client]\n'; printf '%s\n' "$@") -e 'DO 0' 2>&1); then return 0; fi
  if [[ $answer == *'ERROR 1045 '* ]]; then return 1; fi
  printf '%s\n' "$answer" >&2
  exit 1
}

# account USER HOST TLS PASSWORDS LOGIN... makes an account that takes the first of the passwords and, when there are two, goes
# on taking the one it had: whoever still holds that is not locked out by a rotation.
account() {
  local user=$1 host=$2 secure=$3 first=${4%%,*} both=${4//[^,]/} retained
  if [[ ! $4 =~ ^[A-Za-z0-9_-]{32,}(,[A-Za-z0-9_-]{32,})?$ ]]; then
    echo "the passwords of $user are not one or two of at least 32 letters, digits, - and _" >&2
    exit 1
  fi
  if [[ -z $(mysql -N <<<"SELECT 1 FROM mysql.user WHERE User = '$user'") ]]; then
    mysql <<<"CREATE USER '$user'@'$host' IDENTIFIED BY '$first' REQUIRE $secure"
  fi
  if ! accepted "user=$user" "password=$first" "${@:5}"; then
    mysql <<<"ALTER USER '$user'@'$host' IDENTIFIED BY '$first' RETAIN CURRENT PASSWORD"
  fi
  retained=$(mysql -N <<<"SELECT COUNT(*) FROM mysql.user WHERE User = '$user' AND User_attributes->'\$.additional_password' IS NOT NULL")
  if [[ -z $both && $retained != 0 ]]; then
    mysql <<<"ALTER USER '$user'@'$host' DISCARD OLD PASSWORD"
  fi
}

setup() {
  local vault ca cert key servicesPasswords schemaPasswords exporterPassword memory
  vault=$(token https://vault.azure.net)
  secret() { as "$vault" "$VAULT/secrets/$1?api-version=7.4" | jq -er .value; }
  ca=$(secret db-ca)
  cert=$(secret mysql-tls-cert)
  key=$(secret mysql-tls-key)
  servicesPasswords=$(secret mysql-services-password)
  schemaPasswords=$(secret mysql-schema-password)
  exporterPassword=$(secret mysql-exporter-password)

  if [[ $(openssl x509 -noout -pubkey <<<"$cert") != "$(openssl pkey -pubout <<<"$key")" ]]; then
    echo 'the certificate is not that of the key: a rotation is under way' >&2
    exit 1
  fi

  mkdir -p "$marks" "$tls" "${exporter%/*}"
  chgrp mysql "$tls"
  chmod 0750 "$tls"
  chmod 0755 "${exporter%/*}"
  put "$tls/ca.pem" 0640 mysql <<<"$ca" # MySQL verifies its own certificate
  printf '%s\n%s\n' "$cert" "$key" | put "$tls/server.pem" 0640 mysql

  memory=$(awk '/^MemTotal:/ {print int($2 / 1024)}' /proc/meminfo) # MiB
  put "$conf" 0644 root <<EOF
[mysqld]
bind_address = 127.0.0.1,$ADDRESS
mysqlx = OFF
require_secure_transport = ON
tls_version = TLSv1.2,TLSv1.3
ssl_ca = $tls/ca.pem
ssl_cert = $tls/server.pem
ssl_key = $tls/server.pem
skip_name_resolve = ON
local_infile = OFF
max_connections = $MAX_CONNECTIONS
character_set_server = utf8mb4
collation_server = utf8mb4_bin
default_time_zone = +00:00
innodb_buffer_pool_size = $((memory * 6 / 10))M
innodb_redo_log_capacity = 4G
innodb_flush_method = O_DIRECT
# A commit is on the disk before it is confirmed, and in the binary log, from which any moment since the last dump is restored.
innodb_flush_log_at_trx_commit = 1
sync_binlog = 1
binlog_expire_logs_seconds = 604800
log_error = /var/log/mysql/error.log
slow_query_log = ON
slow_query_log_file = /var/log/mysql/slow.log
long_query_time = 1
EOF
  once config "$conf" systemctl restart mysql
  once tls "$tls/server.pem" mysql -e 'ALTER INSTANCE RELOAD TLS'
  metric mysql_certificate_expiry_timestamp_seconds "$(date -d "$(openssl x509 -noout -enddate <<<"$cert" | cut -d= -f2)" +%s)"

  account services % SSL "$servicesPasswords" "host=$ADDRESS" ssl-mode=REQUIRED
  account schema % SSL "$schemaPasswords" "host=$ADDRESS" ssl-mode=REQUIRED
  account exporter localhost NONE "$exporterPassword" socket=/run/mysqld/mysqld.sock
  put "$marks/grants.sql" 0600 root <<EOF
-- server $(mysql -N <<<'SELECT @@server_uuid')
CREATE DATABASE IF NOT EXISTS liveops CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
GRANT SELECT, INSERT, UPDATE, DELETE ON liveops.* TO 'services'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP ON liveops.* TO 'schema'@'%';
GRANT PROCESS, REPLICATION CLIENT ON *.* TO 'exporter'@'localhost';
GRANT SELECT ON performance_schema.* TO 'exporter'@'localhost';
EOF
  once grants "$marks/grants.sql" sh -c "mysql <$marks/grants.sql"

  put "$exporter" 0640 prometheus <<EOF
[client]
user = exporter
password = ${exporterPassword%%,*}
socket = /run/mysqld/mysqld.sock
EOF
  put "$exporterArgs" 0644 root <<EOF
ARGS="--config.my-cnf=$exporter"
EOF
  once exporter "$exporter" systemctl restart prometheus-mysqld-exporter

  logs # last, since it is not needed to be there for the services
}

# logs has Alloy of Grafana's repository send the logs to Loki. Of the keys that are offered there one is trusted, by its fingerprint.
logs() {
  local keys
  if [[ $(dpkg-query --show --showformat='${Version}' alloy 2>/dev/null) != "$alloyVersion" ]]; then
    keys=$(mktemp -d)
    curl -fsS --retry 3 https://apt.grafana.com/gpg.key | gpg --homedir "$keys" --batch --quiet --import
    gpg --homedir "$keys" --batch --armor --export "$grafanaFingerprint" | put /usr/share/keyrings/grafana.asc 0644 root
    rm -rf "$keys"
    put /etc/apt/sources.list.d/grafana.list 0644 root <<<'deb [signed-by=/usr/share/keyrings/grafana.asc] https://apt.grafana.com stable main'
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --allow-downgrades "alloy=$alloyVersion"
    usermod -aG adm,systemd-journal alloy # whose the logs are
    systemctl enable --quiet alloy
  fi
  base64 -d <<<"$ALLOY" | put /etc/alloy/config.alloy 0644 root
  put /etc/default/alloy 0644 root <<EOF
CONFIG_FILE=/etc/alloy/config.alloy
CUSTOM_ARGS="--server.http.listen-addr=$ADDRESS:12345 --disable-reporting"
LOKI_URL=$LOKI_URL
EOF
  once alloy-args /etc/default/alloy systemctl restart alloy
  once alloy-config /etc/alloy/config.alloy systemctl restart alloy
}

# backup writes the dump as blocks, which become a blob only when the last one is there.
backup() {
  local name storage dir
  name=$BACKUPS/liveops-$(date -u +%Y-%m-%dT%H%M%SZ).sql.zst
  storage=$(token https://storage.azure.com)
  dir=$(mktemp -d)
  # shellcheck disable=SC2064 # this directory
  trap "rm -rf '$dir'" EXIT
  block=0
  upload() { # QUERY FILE
    as "$storage" -X PUT -H 'x-ms-version: 2023-11-03' --upload-file "$2" "$name?$1"
  }
  mysqldump --single-transaction --source-data=2 --set-gtid-purged=OFF --routines --triggers --events liveops | zstd -q |
    while head -c 64M >"$dir/block" && [[ -s $dir/block ]]; do
      id=$(printf '%06d' "$block" | base64)
      upload "comp=block&blockid=$id" "$dir/block"
      printf '<Latest>%s</Latest>' "$id" >>"$dir/list"
      block=$((block + 1))
    done
  { printf '<BlockList>'; cat "$dir/list"; printf '</BlockList>'; } >"$dir/commit"
  upload comp=blocklist "$dir/commit"
  metric mysql_backup_last_success_timestamp_seconds "$(date +%s)"
}

case ${1-} in
setup | backup) "$1" ;;
*)
  echo "usage: $0 setup|backup" >&2
  exit 2
  ;;
esac
