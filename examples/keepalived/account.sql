-- hookbox's account, on both servers. Change the password; it goes into /etc/hookbox/password.
-- MariaDB 10.5 or later. The second account is for the other node, which asks whether this server
-- still takes writes before it takes them itself.
SET SESSION sql_log_bin = 0;
CREATE USER hookbox@localhost IDENTIFIED BY 'change-me';
CREATE USER hookbox@'10.77.0.%' IDENTIFIED BY 'change-me';
GRANT RELOAD, PROCESS, BINLOG MONITOR, SLAVE MONITOR, REPLICATION SLAVE ADMIN,
    REPLICATION MASTER ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN
    ON *.* TO hookbox@localhost, hookbox@'10.77.0.%';
-- Where events are used, for the scheduler and to let them run on as whoever defined them:
-- GRANT EVENT, SET USER, SUPER ON *.* TO hookbox@localhost, hookbox@'10.77.0.%';
