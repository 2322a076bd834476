// The cluster.

@description('Name of the cluster.')
param name string

@description('Azure region.')
param location string

@description('Name of the virtual network, whose subnet "nodes" the nodes are in.')
param vnetName string

@description('Address from which the nodes reach the Internet.')
param natAddress string

@description('Tier of the control plane: Standard has an SLA.')
@allowed(['Free', 'Standard'])
param tier string

@description('Availability zones of the nodes; empty: none.')
param zones array

@description('The pool of add-ons: an object of vmSize, min and max nodes.')
param systemPool object

@description('The pool of workloads: an object of vmSize, min and max nodes.')
param workloadPool object

@description('Whether the Kubernetes API is in the virtual network only.')
param privateApi bool

@description('Public address ranges that the Kubernetes API answers; empty: all. Not with privateApi.')
param operatorRanges array

@description('Object id of the group that administers the cluster; empty: nobody yet.')
param operators string

@description('Resource id of the Log Analytics workspace.')
param workspaceId string

var networkContributor = '4d97b98b-1d4f-4787-a291-c67834d212e7'

var operatorRoles = [
  '4abbcc35-e782-43d8-92c5-2d3f1bd2253f' // Azure Kubernetes Service Cluster User Role
  'b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b' // Azure Kubernetes Service RBAC Cluster Admin
]

var pools = [
  { name: 'system', mode: 'System', size: systemPool, taints: ['CriticalAddonsOnly=true:NoSchedule'] }
  { name: 'workload', mode: 'User', size: workloadPool, taints: [] }
]

resource subnet 'Microsoft.Network/virtualNetworks/subnets@2024-05-01' existing = {
  name: '${vnetName}/nodes'
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: 'id-${name}'
  location: location
}

// To join nodes and load balancers to the subnet.
resource subnetRole 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subnet.id, identity.id, networkContributor)
  scope: subnet
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', networkContributor)
    principalId: identity.properties.principalId
    principalType: 'ServicePrincipal'
  }
}

resource cluster 'Microsoft.ContainerService/managedClusters@2026-04-01' = {
  name: name
  location: location
  sku: {
    name: 'Base'
    tier: tier
  }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    dnsPrefix: name
    nodeResourceGroup: 'rg-${name}-nodes'
    disableLocalAccounts: true
    enableRBAC: true
    aadProfile: {
      managed: true
      enableAzureRBAC: true
      tenantID: subscription().tenantId
    }
    apiServerAccessProfile: {
      enablePrivateCluster: privateApi
      authorizedIPRanges: privateApi || empty(operatorRanges) ? null : concat(operatorRanges, ['${natAddress}/32'])
    }
    agentPoolProfiles: [for pool in pools: {
      name: pool.name
      mode: pool.mode
      type: 'VirtualMachineScaleSets'
      osType: 'Linux'
      osSKU: 'AzureLinux'
      vmSize: pool.size.vmSize
      availabilityZones: zones
      vnetSubnetID: subnet.id
      enableAutoScaling: true
      count: pool.size.min
      minCount: pool.size.min
      maxCount: pool.size.max
      maxPods: 110
      nodeTaints: pool.taints
      enableEncryptionAtHost: true
      securityProfile: {
        enableSecureBoot: true
        enableVTPM: true
        sshAccess: 'Disabled'
      }
      upgradeSettings: {
        maxSurge: '33%'
        drainTimeoutInMinutes: 30
      }
    }]
    networkProfile: {
      networkPlugin: 'azure'
      networkPluginMode: 'overlay' // pods leave as their node, so that MySQL's VM knows them by the nodes' subnet
      networkDataplane: 'cilium'
      networkPolicy: 'cilium'
      loadBalancerSku: 'standard'
      outboundType: 'userAssignedNATGateway'
      podCidr: '10.244.0.0/16'
      serviceCidr: '10.245.0.0/16'
      dnsServiceIP: '10.245.0.10'
    }
    oidcIssuerProfile: { enabled: true }
    securityProfile: {
      workloadIdentity: { enabled: true }
      imageCleaner: {
        enabled: true
        intervalHours: 168
      }
    }
    workloadAutoScalerProfile: {
      keda: { enabled: true }
    }
    ingressProfile: {
      webAppRouting: { enabled: true }
    }
    addonProfiles: {
      azureKeyvaultSecretsProvider: {
        enabled: true
        config: {
          enableSecretRotation: 'true'
          rotationPollInterval: '2m'
        }
      }
    }
    autoUpgradeProfile: {
      upgradeChannel: 'stable'
      nodeOSUpgradeChannel: 'NodeImage'
    }
    autoScalerProfile: {
      expander: 'least-waste'
      'skip-nodes-with-local-storage': 'false' // emptyDir volumes hold nothing that must last
    }
  }
  dependsOn: [subnetRole]
}

resource upgrades 'Microsoft.ContainerService/managedClusters/maintenanceConfigurations@2026-04-01' = [for kind in ['aksManagedAutoUpgradeSchedule', 'aksManagedNodeOSUpgradeSchedule']: {
  parent: cluster
  name: kind
  properties: {
    maintenanceWindow: {
      schedule: {
        weekly: {
          dayOfWeek: 'Tuesday'
          intervalWeeks: 1
        }
      }
      startTime: '03:00'
      utcOffset: '+00:00'
      durationHours: 5
    }
  }
}]

resource operatorAssignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in operatorRoles: if (!empty(operators)) {
  name: guid(cluster.id, 'operators', role)
  scope: cluster
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
    principalId: operators
    principalType: 'Group'
  }
}]

resource diagnostics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'logs'
  scope: cluster
  properties: {
    workspaceId: workspaceId
    logs: [for category in ['kube-audit-admin', 'guard', 'kube-controller-manager', 'cluster-autoscaler']: {
      category: category
      enabled: true
    }]
    metrics: [{ category: 'AllMetrics', enabled: true }]
  }
}

@description('Name of the cluster.')
output name string = cluster.name

@description('OIDC issuer, which identities are federated with.')
output issuer string = cluster.properties.oidcIssuerProfile.issuerURL

@description('Object id of the kubelets\' identity.')
output kubeletPrincipalId string = cluster.properties.identityProfile.kubeletidentity.objectId

@description('Object id of the identity of the Ingress controller, which reads the TLS certificate.')
output ingressPrincipalId string = cluster.properties.ingressProfile.webAppRouting.identity.objectId
