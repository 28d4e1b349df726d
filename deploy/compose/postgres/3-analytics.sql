-- The store of bookstore-analytics. No column is required and no key is foreign, since the topics of the tables are
-- read side by side: an item may come before its order.

CREATE DATABASE analytics OWNER tidegate;
\connect analytics
SET ROLE tidegate;

CREATE TABLE fact_orders (
    id uuid PRIMARY KEY,
    user_id text,
    total numeric,
    status text,
    created_at timestamptz
);

CREATE TABLE fact_order_items (
    id uuid PRIMARY KEY,
    order_id uuid,
    book_id uuid,
    quantity integer,
    price_at_purchase numeric
);

CREATE TABLE dim_books (
    id uuid PRIMARY KEY,
    title text,
    author text,
    price numeric,
    description text,
    cover_url text,
    isbn text,
    genre text,
    published_year integer,
    created_at timestamptz
);

CREATE TABLE fact_inventory (
    book_id uuid PRIMARY KEY,
    quantity integer,
    reserved integer,
    updated_at timestamptz
);

-- What the dashboards read.
CREATE VIEW vw_product_sales_volume AS
SELECT book.id, book.title, sum(item.quantity) AS units_sold, sum(item.quantity * item.price_at_purchase) AS revenue
FROM fact_order_items AS item
JOIN fact_orders AS placed ON placed.id = item.order_id AND placed.status <> 'CANCELLED'
JOIN dim_books AS book ON book.id = item.book_id
GROUP BY book.id, book.title;

CREATE VIEW vw_sales_over_time AS
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS orders, sum(total) AS daily_revenue
FROM fact_orders
GROUP BY 1;
