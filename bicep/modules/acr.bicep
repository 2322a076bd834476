// The container registry.

@description('Name of the registry, letters and digits.')
param name string

@description('Azure region.')
param location string

@description('Tier of the registry. Premium is spread over zones where the region has them.')
@allowed(['Basic', 'Standard', 'Premium'])
param sku string

@description('Object id of the kubelets\' identity, which pulls images.')
param kubeletPrincipalId string

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'

resource registry 'Microsoft.ContainerRegistry/registries@2025-04-01' = {
  name: name
  location: location
  sku: { name: sku }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    publicNetworkAccess: 'Enabled' // pipelines push from outside; identity decides
    zoneRedundancy: sku == 'Premium' ? 'Enabled' : 'Disabled'
  }
}

resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(registry.id, 'kubelet', acrPull)
  scope: registry
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPull)
    principalId: kubeletPrincipalId
    principalType: 'ServicePrincipal'
  }
}

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: registry
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'allLogs', enabled: true }]
  }
}

@description('Name of the registry.')
output name string = registry.name

@description('Host that images are pulled from.')
output loginServer string = registry.properties.loginServer
