#!/bin/sh
kind=$1; shift
for a; do case $a in --*=*) n=${a#--}; eval "${n%%=*}=\${a#*=}" ;; esac; done
on() { ssh -o BatchMode=yes -o ConnectTimeout=1 "root@$1" "$2"; }
echo "ideal $kind $command"
case $command in
stopssh) on "$orig_master_host" "timeout 1 mariadb -e 'set global read_only=1'; ip addr del 10.77.0.100/24 dev eth0; true" ;;
stop) [ "$kind" = online ] || exit 0
    on "$orig_master_host" "ip addr del 10.77.0.100/24 dev eth0; mariadb -e 'set global read_only=1'
    for i in \$(mariadb -BNe \"select id from information_schema.processlist where user='app'\"); do mariadb -e \"kill \$i\"; done; true" ;;
start) on "$new_master_host" "mariadb -e 'set global read_only=0'; ip addr add 10.77.0.100/24 dev eth0; arping -q -c1 -U -I eth0 10.77.0.100" ;;
esac
