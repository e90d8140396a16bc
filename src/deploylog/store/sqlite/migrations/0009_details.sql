-- What a deployment carries, see deployments/details.py: a JSON object, and which is the newest one
-- of each stack and environment.
ALTER TABLE deployments ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
CREATE INDEX deployments_place ON deployments (stack_id, environment, number);
