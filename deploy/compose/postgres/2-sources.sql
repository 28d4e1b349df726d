-- The source databases of the five systems. /corpus is tests/corpus: the tables and rows from which its events came.
-- Each publication is made here, so that Debezium need not own the tables: it may read them, and no more.

CREATE DATABASE go1_db;
\connect go1_db
\i /corpus/order-cache/schema.sql
\i /corpus/order-cache/seed.sql
CREATE PUBLICATION debezium_slot_pub FOR TABLE orders;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium;

CREATE DATABASE "cdc-cascade-db";
\connect cdc-cascade-db
\i /corpus/cdc-cascade/schema.sql
\i /corpus/cdc-cascade/seed.sql
CREATE PUBLICATION cdc_cascade_slot_pub FOR TABLE sinners;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium;

CREATE DATABASE ecomdb;
\connect ecomdb
\i /corpus/bookstore-analytics/ecom-schema.sql
\i /corpus/bookstore-analytics/ecom-seed.sql
CREATE PUBLICATION debezium_ecom_pub FOR TABLE orders, order_items, books;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium;

CREATE DATABASE inventorydb;
\connect inventorydb
\i /corpus/bookstore-analytics/inventory-schema.sql
\i /corpus/bookstore-analytics/inventory-seed.sql
CREATE PUBLICATION debezium_inventory_slot_pub FOR TABLE inventory;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium;

CREATE DATABASE trackops_orders;
\connect trackops_orders
\i /corpus/trackops-cache/schema.sql
\i /corpus/trackops-cache/seed.sql
CREATE PUBLICATION trackops_slot_pub FOR TABLE orders;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium;

CREATE DATABASE app;
\connect app
\i /corpus/company-search/schema.sql
\i /corpus/company-search/seed.sql
CREATE PUBLICATION company_slot_pub FOR TABLE company, contact, job_posting;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO debezium;
