-- What every lab server starts with. None of it is in the binary log: both servers begin alike.
SET SESSION sql_log_bin = 0;
CREATE USER repl@'10.77.0.%' IDENTIFIED BY 'replpass';
GRANT REPLICATION SLAVE ON *.* TO repl@'10.77.0.%';
CREATE USER app@'10.77.0.%' IDENTIFIED BY 'apppass';
CREATE DATABASE lab;
GRANT SELECT, INSERT, UPDATE, DELETE ON lab.* TO app@'10.77.0.%';
CREATE TABLE lab.t (
    w INT NOT NULL,
    seq BIGINT NOT NULL,
    server INT NOT NULL,
    id BIGINT NOT NULL AUTO_INCREMENT UNIQUE,
    PRIMARY KEY (w, seq)
) ENGINE = InnoDB;
