// Where Azure's own logs go. Prometheus, Grafana and Loki run in the cluster and look after the services.

@description('Name of the workspace.')
param name string

@description('Azure region.')
param location string

@description('Days that logs are kept.')
param retentionDays int

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: name
  location: location
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionDays
    features: { disableLocalAuth: true }
  }
}

@description('Resource id of the workspace.')
output workspaceId string = workspace.id
