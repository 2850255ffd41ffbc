-- MariaDB 10.11.6: as root, on every server. Not replicated, so that no server has transactions that
-- the others lack. Put a password of your own in the place of change-me.
SET SESSION sql_log_bin = 0;
-- Where there are events: hookbox grants --events.

-- hookbox on the server's own host; its password is that of [mysql].
CREATE USER 'hookbox'@'localhost' IDENTIFIED BY 'change-me';
--   READ_ONLY ADMIN: closes writes and opens them
--   CONNECTION ADMIN: ends sessions; is let in when all connections are taken; ends sessions of root and its like
--   PROCESS: sees the sessions and transactions of others
--   SLAVE MONITOR: asks how replication stands
--   BINLOG MONITOR: asks for the end of the binary log
--   REPLICATION SLAVE ADMIN: starts and stops replication, and sets it up (rejoin); reads the relay log, for a transaction of which only the beginning came
--   REPLICATION MASTER ADMIN: switches semi-sync's source side, for which commits wait
--   RELOAD: forgets the source (RESET SLAVE ALL)
GRANT READ_ONLY ADMIN, CONNECTION ADMIN, PROCESS, SLAVE MONITOR, BINLOG MONITOR, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, RELOAD
    ON *.* TO 'hookbox'@'localhost';

-- hookbox on the other hosts: asks this server, and closes it if need be.
CREATE USER 'hookbox'@'10.77.0.%' IDENTIFIED BY 'change-me';
--   READ_ONLY ADMIN: closes writes and opens them
--   CONNECTION ADMIN: ends sessions; is let in when all connections are taken; ends sessions of root and its like
--   PROCESS: sees the sessions and transactions of others
--   SLAVE MONITOR: asks how replication stands
--   BINLOG MONITOR: asks for the end of the binary log
--   REPLICATION MASTER ADMIN: switches semi-sync's source side, for which commits wait
GRANT READ_ONLY ADMIN, CONNECTION ADMIN, PROCESS, SLAVE MONITOR, BINLOG MONITOR, REPLICATION MASTER ADMIN
    ON *.* TO 'hookbox'@'10.77.0.%';
