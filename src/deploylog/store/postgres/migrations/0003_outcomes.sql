-- Deployments in the order in which they ended, for metrics.
CREATE INDEX deployments_ended ON deployments (ended, number);
