-- The two roles that come from outside: Debezium reads the sources, tidegate writes the analytics.
-- Their passwords are the variables of docker-compose.yml.
\getenv debezium_password DEBEZIUM_PASSWORD
\getenv tidegate_password TIDEGATE_PASSWORD

CREATE ROLE debezium LOGIN REPLICATION PASSWORD :'debezium_password';
CREATE ROLE tidegate LOGIN PASSWORD :'tidegate_password';
